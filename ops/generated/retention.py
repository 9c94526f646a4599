"""retention: generated from its spec by rnnc; do not edit.

S[t] = gamma * S[t-1] + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)

In a chunk of C tokens with the incoming state S_in:
  D = gamma
  w = k
  q_ = K**-0.5 * q
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "retention"
SPEC_HASH = "5d6b4798f9e75f8a9bacba355b55ae0d6a92fa2c76cf90f156c4098f0aca8793"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)))
PARAMS = (("gamma", ()),)
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, gamma) = args
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    rsqrt_K = (K) ** -0.5
    qk = q @ k.mT
    log2_gamma = torch.log2(gamma)
    log2_gamma_2 = log2_gamma[:, :, None].expand(-1, -1, C)
    del log2_gamma
    log2_D = torch.where(valid > 0, log2_gamma_2, 0)
    del log2_gamma_2
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    A = tiles.product_(G_ij, qk)
    del G_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    valid_G_after = valid * G_after
    del G_after
    A_scaled = tiles.scale_(A, valid[:, :, None])
    del A
    G_scaled = G * rsqrt_K
    del G
    A_scaled_v = A_scaled @ v
    del A_scaled
    A_scaled_v_scaled = A_scaled_v * rsqrt_K
    del A_scaled_v
    k_scaled = tiles.scale_(k, valid_G_after[:, :, :, None])
    del valid_G_after
    q_scaled = tiles.scale_(q, G_scaled[:, :, :, None])
    del G_scaled
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        q_scaled_c,
        A_scaled_v_scaled_c,
        G_C_c,
        k_scaled_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            q_scaled,
            A_scaled_v_scaled,
            G_C[:, :, None, None],
            k_scaled.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        o = torch.baddbmm(A_scaled_v_scaled_c, q_scaled_c, S, out=o_rows.room(n))
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_c, v_c)
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
    del A_scaled_v_scaled, G_C, k_scaled, q_scaled
    return (o,), (S_end,), (S, qk) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, gamma) = args
    C = valid.shape[2]
    H = h0[0].shape[1]
    qk = q @ k.mT
    log2_gamma = torch.log2(gamma)
    log2_gamma_2 = log2_gamma[:, :, None].expand(-1, -1, C)
    del log2_gamma
    log2_D = torch.where(valid > 0, log2_gamma_2, 0)
    del log2_gamma_2
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    valid_G_after = valid * G_after
    del G_after
    k_scaled = valid_G_after[:, :, :, None] * k
    del valid_G_after
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (G_C_c, k_scaled_c, v_c) in scan.each(steps, H, (G_C[:, :, None, None], k_scaled.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_c, v_c)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del G_C, k_scaled
    return (), (S_end,), (S, qk) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gamma) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, qk) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    rsqrt_K = (K) ** -0.5
    log2_gamma = torch.log2(gamma)
    log2_gamma_2 = log2_gamma[:, :, None].expand(-1, -1, C)
    del log2_gamma
    log2_D = torch.where(valid > 0, log2_gamma_2, 0)
    del log2_gamma_2
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    qk_G_ij = qk * G_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    ln2 = tiles.LN2
    do_v = do @ v.mT
    one_over_gamma = torch.reciprocal(gamma)
    log2e = tiles.LOG2E
    G_ij_do_v = tiles.product_(G_ij, do_v)
    del G_ij
    do_scaled = G[:, :, :, None] * do
    valid_G_after = valid * G_after
    del G_after
    rsqrt_K_ln2 = rsqrt_K * ln2
    qk_G_ij_scaled = valid[:, :, None] * qk_G_ij
    valid_scaled = valid * rsqrt_K
    G_scaled = G * rsqrt_K
    dlog2_G_ij = tiles.product_(do_v, qk_G_ij_scaled, rsqrt_K_ln2)
    del do_v, qk_G_ij_scaled
    dgamma_1 = tiles.segment_sum_grad(dlog2_G_ij)
    del dlog2_G_ij
    G_ij_do_v_scaled = valid[:, :, None] * G_ij_do_v
    G_ij_do_v_scaled_k = G_ij_do_v_scaled @ k
    del G_ij_do_v_scaled
    qk_G_ij_scaled_2 = tiles.scale_(qk_G_ij, valid_scaled[:, :, None])
    del qk_G_ij
    G_ij_do_v_scaled_2 = tiles.scale_(G_ij_do_v, valid_scaled[:, :, None])
    del G_ij_do_v, valid_scaled
    dk_scaled_rows = scan.Rows(steps, H, True)
    k_dS_rows = scan.Rows(steps, H, True)
    S_dS_sum_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        k_c,
        S_c,
        do_c,
        S_c_2,
        G_C_c,
        q_c,
        do_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k,
            S,
            do,
            S.mT,
            G_C[:, :, None, None],
            q.mT,
            do_scaled,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dk_scaled = torch.bmm(v_c, dS.mT, out=dk_scaled_rows.room(n))
        k_dS = torch.bmm(k_c, dS, out=k_dS_rows.room(n))
        S_dS = S_c * dS
        S_dS_sum = torch.sum(S_dS, 1, out=S_dS_sum_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), q_c, do_scaled_c, rsqrt_K)
        dk_scaled_rows.put(dk_scaled)
        k_dS_rows.put(k_dS)
        S_dS_sum_rows.put(S_dS_sum)
        do_S_rows.put(do_S)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dk_scaled = dk_scaled_rows.joined()
    k_dS = k_dS_rows.joined()
    S_dS_sum = S_dS_sum_rows.joined()
    do_S = do_S_rows.joined()
    del dk_scaled_rows
    del k_dS_rows
    del S_dS_sum_rows
    del do_S_rows
    del do_scaled
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C)
    del dlog2_G_C
    k_dk_scaled = tiles.product_(k, dk_scaled)
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dlog2_G_after = k_dk_scaled_sum * valid_G_after * ln2
    del k_dk_scaled_sum
    dgamma_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dq_1 = G_ij_do_v_scaled_k * rsqrt_K
    del G_ij_do_v_scaled_k
    dq = torch.addcmul(dq_1, G_scaled[:, :, :, None], do_S)
    del G_scaled, dq_1
    q_do_S = q * do_S
    del do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    G_q_do_S_sum = G * q_do_S_sum * rsqrt_K_ln2
    del G, q_do_S_sum
    dgamma_3 = tiles.suffix_sum(G_q_do_S_sum, 2)
    del G_q_do_S_sum
    dgamma_4 = dlog2_G_C_2 + dgamma_2 + dgamma_1 + dgamma_3
    del dgamma_1, dgamma_2, dgamma_3, dlog2_G_C_2
    dgamma_5 = valid * dgamma_4
    del dgamma_4
    dgamma_6 = dgamma_5.sum(2)
    del dgamma_5
    dgamma = dgamma_6 * one_over_gamma * log2e
    del dgamma_6, one_over_gamma
    dv = tiles.addmm_(valid_G_after[:, :, :, None] * k_dS, qk_G_ij_scaled_2.mT, do)
    del k_dS, qk_G_ij_scaled_2
    dk = tiles.addmm_(valid_G_after[:, :, :, None] * dk_scaled, G_ij_do_v_scaled_2.mT, q)
    del G_ij_do_v_scaled_2, dk_scaled, valid_G_after
    return (dq, dk, dv, dgamma), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gamma) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (gamma_c, S_new_1_c, q__c) in scan.each(steps, H, (gamma[:, :, None, None], S_new_1, q_)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, gamma_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        o = (q__c[..., None, :] @ S_new).squeeze(-2)
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
    del S_new_1, q_
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gamma) = args
    H = h0[0].shape[1]
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (gamma_c, S_new_1_c) in scan.each(steps, H, (gamma[:, :, None, None], S_new_1)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, gamma_c, own, S_rows if keep else None)
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
    (q, k, v, gamma) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    dq_1 = tiles.addcmul_(gamma[:, :, None, None] * S, k[:, :, :, None], v[:, :, None])
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    dq_ = (do[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    dq = dq_ * rsqrt_K
    del dq_
    dS_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dS_before_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (dS_before_1_c, gamma_c) in scan.each(steps, H, (dS_before_1, gamma), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dS_before = gamma_c[:, None, None] * dS_before_2
        dS_before_2_rows.put(dS_before_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    del dS_before_2_rows
    del dS_before_1
    dk_1 = v[:, :, None] * dS_before_2
    dv_1 = k[:, :, :, None] * dS_before_2
    dk = dk_1.sum(3)
    del dk_1
    dv = dv_1.sum(2)
    del dv_1
    dgamma_1 = S * dS_before_2
    del dS_before_2
    dgamma_2 = dgamma_1.sum(2)
    del dgamma_1
    dgamma = dgamma_2.sum(2)
    del dgamma_2
    return (dq, dk, dv, dgamma), (dS_end,)
