"""linear_attention: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + phi_k @ v.T
o[t] = S[t].T @ phi_q
  phi_q = elu(q) + 1
  phi_k = elu(k) + 1

In a chunk of C tokens with the incoming state S_in:
  w = phi_k
  q_ = phi_q
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A v + q_ S_in
  S_out = S_in + w^T v
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "linear_attention"
SPEC_HASH = "8f70792284d67ccda2e478e584f2f011463c3666c46a9acd7e7a985645021949"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v) = args
    H = h0[0].shape[1]
    elu_k = F.elu(k)
    phi_k = elu_k + 1
    del elu_k
    phi_k_scaled = valid[:, :, :, None] * phi_k
    elu_q = F.elu(q)
    phi_q = elu_q + 1
    del elu_q
    phi_q_phi_k = phi_q @ phi_k.mT
    del phi_k
    phi_q_phi_k_scaled = valid[:, :, None] * phi_q_phi_k
    A = phi_q_phi_k_scaled.tril(0)
    del phi_q_phi_k_scaled
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (phi_q_c, A_c, v_c, phi_k_scaled_c) in scan.each(steps, H, (phi_q, A, v, phi_k_scaled.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        o = torch.bmm(phi_q_c, S, out=o_rows.room(n))
        o = scan.addmm(o, A_c, v_c)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, phi_k_scaled_c, v_c)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del A, phi_k_scaled, phi_q
    return (o,), (S_end,), (S, phi_q_phi_k) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v) = args
    H = h0[0].shape[1]
    elu_k = F.elu(k)
    phi_k = elu_k + 1
    del elu_k
    phi_k_scaled = valid[:, :, :, None] * phi_k
    elu_q = F.elu(q)
    phi_q = elu_q + 1
    del elu_q
    phi_q_phi_k = phi_q @ phi_k.mT
    del phi_k, phi_q
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (phi_k_scaled_c, v_c) in scan.each(steps, H, (phi_k_scaled.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, phi_k_scaled_c, v_c)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del phi_k_scaled
    return (), (S_end,), (S, phi_q_phi_k) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, phi_q_phi_k) = kept
    (do,) = douts
    H = h0[0].shape[1]
    elu_k = F.elu(k)
    phi_k = elu_k + 1
    del elu_k
    elu_q = F.elu(q)
    phi_q = elu_q + 1
    del elu_q
    do_v = do @ v.mT
    do_v_lower = do_v.tril(0)
    del do_v
    do_v_lower_scaled = valid[:, :, None] * do_v_lower
    do_v_lower_phi_q = do_v_lower.mT @ phi_q
    del do_v_lower
    min_phi_k = torch.minimum(phi_k, torch.as_tensor(1, dtype=phi_k.dtype, device=phi_k.device))
    min_phi_q = torch.minimum(phi_q, torch.as_tensor(1, dtype=phi_q.dtype, device=phi_q.device))
    phi_q_phi_k_scaled = valid[:, :, None] * phi_q_phi_k
    dv_1 = phi_q_phi_k_scaled.tril(0)
    del phi_q_phi_k_scaled
    dphi_q = tiles.addmm_(do @ S.mT, do_v_lower_scaled, phi_k)
    del do_v_lower_scaled
    dq = tiles.product_(min_phi_q, dphi_q)
    del dphi_q, min_phi_q
    min_phi_k_scaled = tiles.scale_(min_phi_k, valid[:, :, :, None])
    del min_phi_k
    dphi_k_scaled_rows = scan.Rows(steps, H, True)
    phi_k_dS_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (v_c, phi_k_c, phi_q_c, do_c) in scan.each(steps, H, (v, phi_k, phi_q.mT, do), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dphi_k_scaled = torch.bmm(v_c, dS.mT, out=dphi_k_scaled_rows.room(n))
        phi_k_dS = torch.bmm(phi_k_c, dS, out=phi_k_dS_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own), phi_q_c, do_c)
        dphi_k_scaled_rows.put(dphi_k_scaled)
        phi_k_dS_rows.put(phi_k_dS)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dphi_k_scaled = dphi_k_scaled_rows.joined()
    phi_k_dS = phi_k_dS_rows.joined()
    del dphi_k_scaled_rows
    del phi_k_dS_rows
    del phi_k, phi_q
    dk = tiles.addcmul_(do_v_lower_phi_q * min_phi_k_scaled, dphi_k_scaled, min_phi_k_scaled)
    del do_v_lower_phi_q, dphi_k_scaled, min_phi_k_scaled
    dv = tiles.addmm_(valid[:, :, :, None] * phi_k_dS, dv_1.mT, do)
    del dv_1, phi_k_dS
    return (dq, dk, dv), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v) = args
    H = h0[0].shape[1]
    elu_k = F.elu(k)
    phi_k = elu_k + 1
    del elu_k
    S_new_1 = v[:, :, None] * phi_k[:, :, :, None]
    del phi_k
    elu_q = F.elu(q)
    phi_q = elu_q + 1
    del elu_q
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (S_new_1_c, phi_q_c) in scan.each(steps, H, (S_new_1, phi_q)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        o = (phi_q_c[..., None, :] @ S_new).squeeze(-2)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del S_new_1, phi_q
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v) = args
    H = h0[0].shape[1]
    elu_k = F.elu(k)
    phi_k = elu_k + 1
    del elu_k
    S_new_1 = v[:, :, None] * phi_k[:, :, :, None]
    del phi_k
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (S_new_1_c,) in scan.each(steps, H, (S_new_1,)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    elu_k = F.elu(k)
    phi_k = elu_k + 1
    del elu_k
    dphi_q_1 = torch.addcmul(S, v[:, :, None], phi_k[:, :, :, None])
    elu_q = F.elu(q)
    phi_q = elu_q + 1
    del elu_q
    dphi_q = (do[..., None, :] @ dphi_q_1.mT).squeeze(-2)
    del dphi_q_1
    dS_before_1 = phi_q[:, :, :, None] * do[:, :, None]
    min_phi_q = torch.minimum(phi_q, torch.as_tensor(1, dtype=phi_q.dtype, device=phi_q.device))
    del phi_q
    dq = dphi_q * min_phi_q
    del dphi_q, min_phi_q
    min_phi_k = torch.minimum(phi_k, torch.as_tensor(1, dtype=phi_k.dtype, device=phi_k.device))
    dS_before_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (dS_before_1_c,) in scan.each(steps, H, (dS_before_1,), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before = scan.scale(dS, 1, own) + dS_before_1_c
        dS_before_rows.put(dS_before)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before = dS_before_rows.joined()
    del dS_before_rows
    del dS_before_1
    dS_before_scaled = phi_k[:, :, :, None] * dS_before
    del phi_k
    dS_before_scaled_2 = v[:, :, None] * dS_before
    del dS_before
    dv = dS_before_scaled.sum(2)
    del dS_before_scaled
    dphi_k = dS_before_scaled_2.sum(3)
    del dS_before_scaled_2
    dk = dphi_k * min_phi_k
    del dphi_k, min_phi_k
    return (dq, dk, dv), (dS_end,)
