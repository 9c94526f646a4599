"""rwkv6: generated from its spec by rnnc; do not edit.

S[t] = decay * S[t-1] + k @ v.T
o[t] = S[t-1].T @ r + ((k * r).T @ u) * v
  decay = exp(-exp(w0 + w))

In a chunk of C tokens with the incoming state S_in:
  D = decay
  w_ = k
  q = r
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i-1]/G[j]) w_[j],  j < i
  r_ = A v + (q * G[i-1]) S_in
  S_out = G[C] * S_in + (w_ * G[C]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "rwkv6"
SPEC_HASH = "50f9f96a077e30028c1e98fa39b4bb81f72eb237f95c445ee5045f871af02d2a"
INPUTS = (("r", ("K",)), ("w", ("K",)), ("k", ("K",)), ("v", ("V",)))
PARAMS = (("w0", ("K",)), ("u", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (r, w, k, v, w0, u) = args
    H = h0[0].shape[1]
    log2_D_1 = w + w0[:, :, None]
    log2_D_2 = tiles.apply_(torch.exp_, log2_D_1)
    del log2_D_1
    log2_D_3 = log2_D_2 * -1
    del log2_D_2
    k_scaled = valid[:, :, :, None] * k
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_4, 0)
    del log2_D_4
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    r_G_before = tiles.product_(G_before, r)
    del G_before
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_G_after = tiles.product_(G_after, k)
    del G_after
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    A = tiles.decay_dot(r, k_scaled, f1, strict=True)
    del f1, k_scaled, log2_D
    rk = tiles.product_(k, r)
    k_G_after_scaled = tiles.scale_(k_G_after, valid[:, :, :, None])
    del k_G_after
    rk_scaled = tiles.scale_(rk, u[:, :, None])
    del rk
    rk_scaled_sum = rk_scaled.sum(3)
    del rk_scaled
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        rk_scaled_sum_c,
        v_c,
        r_G_before_c,
        A_c,
        G_C_c,
        k_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            rk_scaled_sum[:, :, :, None],
            v,
            r_G_before,
            A,
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        o = torch.mul(rk_scaled_sum_c, v_c, out=o_rows.room(n))
        o = scan.addmm(scan.addmm(o, r_G_before_c, S), A_c, v_c)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, v_c)
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
    del G_C, k_G_after_scaled, r_G_before, rk_scaled_sum
    return (o,), (S_end,), (S, A) if keep else None


chunked_forward.by_step = (3,)


def chunked_states(args, valid, h0, steps, keep):
    (r, w, k, v, w0, _) = args
    H = h0[0].shape[1]
    log2_D_1 = w + w0[:, :, None]
    log2_D_2 = tiles.apply_(torch.exp_, log2_D_1)
    del log2_D_1
    log2_D_3 = log2_D_2 * -1
    del log2_D_2
    k_scaled = valid[:, :, :, None] * k
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_4, 0)
    del log2_D_4
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_G_after = tiles.product_(G_after, k)
    del G_after
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    A = tiles.decay_dot(r, k_scaled, f1, strict=True)
    del f1, k_scaled, log2_D
    k_G_after_scaled = tiles.scale_(k_G_after, valid[:, :, :, None])
    del k_G_after
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        G_C_c,
        k_G_after_scaled_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, v_c)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del G_C, k_G_after_scaled
    return (), (S_end,), (S, A) if keep else None


chunked_states.by_step = (3,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, w0, u) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, r_k_scaled) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    log2_D_1 = w + w0[:, :, None]
    log2_D_2 = tiles.apply_(torch.exp_, log2_D_1)
    del log2_D_1
    log2_D_3 = log2_D_2 * -1
    k_scaled = valid[:, :, :, None] * k
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_4, 0)
    del log2_D_4
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    r_G_before = r * G_before
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_G_after = k * G_after
    ln2 = tiles.LN2
    dr_k_scaled = do @ v.mT
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    dr_1, dk_scaled, dlog2_D_1 = tiles.decay_dot_grads(dr_k_scaled, r, k_scaled, f1, strict=True)
    del dr_k_scaled, f1, k_scaled, log2_D
    log2e = tiles.LOG2E
    v_do = v * do
    v_do_sum = v_do.sum(3)
    del v_do
    r_scaled = tiles.product(r, u[:, :, None], v_do_sum[:, :, :, None])
    rk = r * k
    k_G_after_scaled = valid[:, :, :, None] * k_G_after
    rk_scaled = u[:, :, None] * rk
    rk_scaled_sum = rk_scaled.sum(3)
    del rk_scaled
    rk_scaled_2 = tiles.scale_(rk, v_do_sum[:, :, :, None])
    del rk
    du = rk_scaled_2.sum(2)
    del rk_scaled_2
    v_dS_rows = scan.Rows(steps, H, True)
    k_G_after_dS_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    dr_G_before_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        k_G_after_c,
        S_c,
        do_c,
        S_c_2,
        G_C_c,
        r_G_before_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_G_after,
            S,
            do,
            S.mT,
            G_C[:, :, :, None],
            r_G_before.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        v_dS = torch.bmm(v_c, dS.mT, out=v_dS_rows.room(n))
        k_G_after_dS = torch.bmm(k_G_after_c, dS, out=k_G_after_dS_rows.room(n))
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 2, out=dG_C_rows.room(n))
        dr_G_before = torch.bmm(do_c, S_c_2, out=dr_G_before_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), r_G_before_c, do_c)
        v_dS_rows.put(v_dS)
        k_G_after_dS_rows.put(k_G_after_dS)
        dG_C_rows.put(dG_C)
        dr_G_before_rows.put(dr_G_before)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    v_dS = v_dS_rows.joined()
    k_G_after_dS = k_G_after_dS_rows.joined()
    dG_C = dG_C_rows.joined()
    dr_G_before = dr_G_before_rows.joined()
    del v_dS_rows
    del k_G_after_dS_rows
    del dG_C_rows
    del dr_G_before_rows
    del k_G_after
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    dk_1 = tiles.product_(G_after, valid[:, :, :, None], v_dS)
    del G_after
    k_scaled_2 = tiles.product_(k, u[:, :, None], v_do_sum[:, :, :, None])
    del v_do_sum
    dk = tiles.addcmul_(dk_1 + r_scaled, valid[:, :, :, None], dk_scaled)
    del dk_1, dk_scaled, r_scaled
    dr = tiles.addcmul_(k_scaled_2 + dr_1, G_before, dr_G_before)
    del G_before, dr_1, k_scaled_2
    dlog2_G_after = tiles.product_(k_G_after_scaled, v_dS, ln2)
    del k_G_after_scaled, v_dS
    dlog2_D_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dlog2_G_before = tiles.product_(r_G_before, dr_G_before, ln2)
    del dr_G_before, r_G_before
    dlog2_D_3 = tiles.suffix_sum(dlog2_G_before, 2, exclusive=True)
    del dlog2_G_before
    dlog2_D = dlog2_G_C_2 + dlog2_D_2 + dlog2_D_3 + dlog2_D_1
    del dlog2_D_1, dlog2_D_2, dlog2_D_3, dlog2_G_C_2
    dw_1 = tiles.product_(log2_D_2, dlog2_D)
    del dlog2_D, log2_D_2
    dw_2 = tiles.scale_(dw_1, valid[:, :, :, None])
    del dw_1
    dw = dw_2 * -1 * log2e
    dw0_1 = dw_2.sum(2)
    del dw_2
    dw0 = dw0_1 * -1 * log2e
    del dw0_1
    dv = tiles.addcmul_(valid[:, :, :, None] * k_G_after_dS, rk_scaled_sum[:, :, :, None], do)
    dv = tiles.addmm_(dv, r_k_scaled.mT, do)
    del k_G_after_dS, rk_scaled_sum
    return (dr, dw, dk, dv, dw0, du), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (r, w, k, v, w0, u) = args
    H = h0[0].shape[1]
    decay_1 = w + w0
    decay_2 = torch.exp(decay_1)
    del decay_1
    decay_3 = decay_2 * -1
    del decay_2
    decay = torch.exp(decay_3)
    del decay_3
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    rk = r * k
    u_rk = u * rk
    del rk
    u_rk_sum = u_rk.sum(2)
    del u_rk
    v_scaled = u_rk_sum[:, :, None] * v
    del u_rk_sum
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        r_c,
        v_scaled_c,
        decay_c,
        S_new_1_c,
    ) in scan.each(
        steps,
        H,
        (
            r,
            v_scaled,
            decay[:, :, :, None],
            S_new_1,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        rS = (r_c[..., None, :] @ S).squeeze(-2)
        o = rS + v_scaled_c
        S_new = scan.scale(S, decay_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
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
    del S_new_1, decay, v_scaled
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, w, k, v, w0, _) = args
    H = h0[0].shape[1]
    decay_1 = w + w0
    decay_2 = torch.exp(decay_1)
    del decay_1
    decay_3 = decay_2 * -1
    del decay_2
    decay = torch.exp(decay_3)
    del decay_3
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (decay_c, S_new_1_c) in scan.each(steps, H, (decay[:, :, :, None], S_new_1)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, decay_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1, decay
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, w0, u) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    decay_1 = w + w0
    decay_2 = torch.exp(decay_1)
    del decay_1
    decay_3 = decay_2 * -1
    decay = torch.exp(decay_3)
    del decay_3
    v_do = v * do
    drku_sum = v_do.sum(2)
    del v_do
    do_S = (do[..., None, :] @ S.mT).squeeze(-2)
    dS_before_1 = r[:, :, :, None] * do[:, :, None]
    rk = r * k
    u_scaled = drku_sum[:, :, None] * u
    u_rk = u * rk
    u_rk_sum = u_rk.sum(2)
    del u_rk
    du = tiles.scale_(rk, drku_sum[:, :, None])
    del drku_sum, rk
    dr = torch.addcmul(do_S, k, u_scaled)
    del do_S
    dS_scaled_sum_rows = scan.Rows(steps, H, True)
    dS_scaled_sum_2_rows = scan.Rows(steps, H, True)
    ddecay_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        k_c,
        S_c,
        dS_before_1_c,
        decay_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k,
            S,
            dS_before_1,
            decay[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_scaled = v_c[:, None] * dS
        dS_scaled_2 = k_c[:, :, None] * dS
        dS_scaled_sum = torch.sum(dS_scaled, 2, out=dS_scaled_sum_rows.room(n))
        dS_scaled_sum_2 = torch.sum(dS_scaled_2, 1, out=dS_scaled_sum_2_rows.room(n))
        S_dS = S_c * dS
        ddecay = torch.sum(S_dS, 2, out=ddecay_rows.room(n))
        dS_before = scan.scale(dS, decay_c, own) + dS_before_1_c
        dS_scaled_sum_rows.put(dS_scaled_sum)
        dS_scaled_sum_2_rows.put(dS_scaled_sum_2)
        ddecay_rows.put(ddecay)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_scaled_sum = dS_scaled_sum_rows.joined()
    dS_scaled_sum_2 = dS_scaled_sum_2_rows.joined()
    ddecay = ddecay_rows.joined()
    del dS_scaled_sum_rows
    del dS_scaled_sum_2_rows
    del ddecay_rows
    del dS_before_1
    dw0 = tiles.product(decay_2, decay, ddecay, -1)
    del ddecay, decay, decay_2
    dv = torch.addcmul(dS_scaled_sum_2, u_rk_sum[:, :, None], do)
    del dS_scaled_sum_2, u_rk_sum
    dk = torch.addcmul(dS_scaled_sum, r, u_scaled)
    del dS_scaled_sum, u_scaled
    return (dr, dw0, dk, dv, dw0, du), (dS_end,)
