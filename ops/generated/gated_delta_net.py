"""gated_delta_net: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + beta * u @ (v - alpha * (S[t-1].T @ u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = 2 * sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = beta * u,  f = D f',  f' = -u
  q_ = K**-0.5 * unit(q)
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f'[i]^T (G[i]/G[j]) w[j],  j < i
  U = (I - P)^-1 (v + (f' * G) S_in)
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "gated_delta_net"
SPEC_HASH = "ff87af21b8d76f88cd738056d1fbc685dd8525fd65df1b2819552ac80851fa19"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None], -1)
    del exp_A_log, log2_D_2
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    qk = q @ k.mT
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    A = qk * G_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    valid_sigmoid_b = valid * sigmoid_b
    w_scale = rnorm_k * valid_sigmoid_b
    del valid_sigmoid_b
    valid_sigmoid_b_2 = valid * sigmoid_b
    del sigmoid_b
    w_scale_2 = rnorm_k * valid_sigmoid_b_2
    del valid_sigmoid_b_2
    G_after_w_scale = G_after * w_scale
    del G_after, w_scale
    rnorm_k_G = rnorm_k * G
    rnorm_q_G = rnorm_q * G
    del G
    kk_scaled = rnorm_k[:, :, :, None] * kk
    del rnorm_k
    kk_scaled_scaled = tiles.scale_(kk_scaled, w_scale_2[:, :, None])
    del kk_scaled
    rnorm_q_scaled = rnorm_q * rsqrt_K
    del rnorm_q
    rnorm_q_G_scaled = rnorm_q_G * rsqrt_K
    del rnorm_q_G
    k_scaled = G_after_w_scale[:, :, :, None] * k
    del G_after_w_scale
    P = tiles.product_(G_ij, kk_scaled_scaled, -2)
    del G_ij, kk_scaled_scaled
    A_scaled = tiles.scale_(A, w_scale_2[:, :, None])
    del A, w_scale_2
    inv = tiles.inverse(P)
    del P
    A_scaled_scaled = tiles.scale_(A_scaled, rnorm_q_scaled[:, :, :, None])
    del A_scaled, rnorm_q_scaled
    q_scaled = tiles.scale_(q, rnorm_q_G_scaled[:, :, :, None])
    del rnorm_q_G_scaled
    k_scaled_2 = tiles.scale_(k, rnorm_k_G[:, :, :, None])
    del rnorm_k_G
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        k_scaled_2_c,
        inv_c,
        q_scaled_c,
        A_scaled_scaled_c,
        G_C_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_2,
            inv,
            q_scaled,
            A_scaled_scaled,
            G_C[:, :, None, None],
            k_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, k_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = torch.bmm(q_scaled_c, S, out=o_rows.room(n))
        o = scan.addmm(o, A_scaled_scaled_c, U, 2)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_c, U, 2)
        if keep:
            U_rows.put(U)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del o_rows
    del A_scaled_scaled, G_C, k_scaled, k_scaled_2, q_scaled
    return (o,), (S_end,), (S, kk, qk, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None], -1)
    del exp_A_log, log2_D_2
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    qk = q @ k.mT
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    valid_sigmoid_b = valid * sigmoid_b
    w_scale = rnorm_k * valid_sigmoid_b
    del valid_sigmoid_b
    valid_sigmoid_b_2 = valid * sigmoid_b
    del sigmoid_b
    w_scale_2 = rnorm_k * valid_sigmoid_b_2
    del valid_sigmoid_b_2
    G_after_w_scale = G_after * w_scale
    del G_after, w_scale
    rnorm_k_G = rnorm_k * G
    del G
    kk_scaled = rnorm_k[:, :, :, None] * kk
    del rnorm_k
    kk_scaled_scaled = tiles.scale_(kk_scaled, w_scale_2[:, :, None])
    del kk_scaled, w_scale_2
    k_scaled = G_after_w_scale[:, :, :, None] * k
    del G_after_w_scale
    P = tiles.product_(G_ij, kk_scaled_scaled, -2)
    del G_ij, kk_scaled_scaled
    inv = tiles.inverse(P)
    del P
    k_scaled_2 = rnorm_k_G[:, :, :, None] * k
    del rnorm_k_G
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        k_scaled_2_c,
        inv_c,
        G_C_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_2,
            inv,
            G_C[:, :, None, None],
            k_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, k_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_c, U, 2)
        if keep:
            U_rows.put(U)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del G_C, k_scaled, k_scaled_2
    return (), (S_end,), (S, kk, qk, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, kk, qk, inv, U) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    log2_D_3 = (exp_A_log * -1)[:, :, None] * log2_D_2
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
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
    log2e = tiles.LOG2E
    db_1 = -sigmoid_b + 1
    da_1 = torch.sigmoid(log2_D_1)
    del log2_D_1
    valid_sigmoid_b = valid * sigmoid_b
    w_scale = rnorm_k * valid_sigmoid_b
    valid_sigmoid_b_2 = valid * sigmoid_b
    w_scale_2 = rnorm_k * valid_sigmoid_b_2
    del valid_sigmoid_b_2
    G_after_w_scale = G_after * w_scale
    rnorm_k_G = rnorm_k * G
    rnorm_q_G = rnorm_q * G
    valid_rnorm_k = valid * rnorm_k
    rnorm_k_squared = rnorm_k * rnorm_k
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    exp_A_log_scaled = exp_A_log * log2e
    del exp_A_log
    rsqrt_K_ln2 = rsqrt_K * ln2
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    kk_scaled = rnorm_k[:, :, :, None] * kk
    qk_G_ij_scaled = rnorm_q[:, :, :, None] * qk_G_ij
    kk_scaled_scaled = tiles.scale_(kk_scaled, w_scale_2[:, :, None])
    del kk_scaled
    rnorm_q_scaled = rnorm_q * rsqrt_K
    w_scale_scaled = w_scale * rsqrt_K
    rnorm_q_G_scaled = rnorm_q_G * rsqrt_K
    do_scaled = rnorm_q_G[:, :, :, None] * do
    qk_G_ij_scaled_2 = tiles.scale_(qk_G_ij, w_scale_2[:, :, None])
    del qk_G_ij
    k_scaled = rnorm_k_G[:, :, :, None] * k
    do_U = do @ U.mT
    db_2 = do_U * qk_G_ij_scaled
    db_3 = db_2.sum(2)
    del db_2
    da_2 = tiles.product(qk, do_U, w_scale_2[:, :, None], rnorm_q_scaled[:, :, :, None])
    G_ij_do_U = G_ij * do_U
    G_ij_do_U_scaled = w_scale_2[:, :, None] * G_ij_do_U
    G_ij_do_U_scaled_2 = tiles.scale_(G_ij_do_U, rnorm_q[:, :, :, None])
    del G_ij_do_U, rnorm_q
    db_4 = db_3 * rsqrt_K
    del db_3
    dq_1 = tiles.product_(qk_G_ij_scaled_2, do_U)
    del do_U, qk_G_ij_scaled_2
    dq_2 = dq_1.sum(3)
    del dq_1
    dv_1 = tiles.scale_(qk_G_ij_scaled, w_scale_scaled[:, :, None])
    del qk_G_ij_scaled
    dk_1 = tiles.scale_(G_ij_do_U_scaled_2, w_scale_scaled[:, :, None])
    del G_ij_do_U_scaled_2, w_scale_scaled
    dq_3 = tiles.scale_(G_ij_do_U_scaled, rnorm_q_scaled[:, :, :, None])
    del G_ij_do_U_scaled, rnorm_q_scaled
    k_scaled_2 = G_after_w_scale[:, :, :, None] * k
    S_dS_sum_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        k_scaled_2_c,
        dv_1_c,
        do_c,
        inv_c,
        S_c,
        U_c,
        S_c_2,
        G_C_c,
        q_c,
        do_scaled_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled_2,
            dv_1.mT,
            do,
            inv.mT,
            S,
            U,
            S.mT,
            G_C[:, :, None, None],
            q.mT,
            do_scaled,
            k_scaled.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_2 = scan.addmm(torch.bmm(k_scaled_2_c, dS), dv_1_c, do_c, 2, 2)
        dv = torch.bmm(inv_c, dv_2, out=dv_rows.room(n))
        S_dS = S_c * dS
        S_dS_sum = torch.sum(S_dS, 1, out=S_dS_sum_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dk_2 = torch.bmm(dv, S_c_2, out=dk_2_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), q_c, do_scaled_c, rsqrt_K)
        dS_before = scan.addmm(dS_before, k_scaled_c, dv, -1)
        S_dS_sum_rows.put(S_dS_sum)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dv_rows.put(dv)
        dk_2_rows.put(dk_2)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    S_dS_sum = S_dS_sum_rows.joined()
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dv = dv_rows.joined()
    dk_2 = dk_2_rows.joined()
    del S_dS_sum_rows
    del do_S_rows
    del U_dS_rows
    del dv_rows
    del dk_2_rows
    del do_scaled, dv_1, k_scaled, k_scaled_2
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C)
    del dlog2_G_C
    k_U_dS = k * U_dS
    k_U_dS_sum = k_U_dS.sum(3)
    del k_U_dS
    dlog2_G_after_1 = k_U_dS_sum * G_after_w_scale
    dlog2_G_after = dlog2_G_after_1 * 2 * ln2
    da_3 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dk_3 = tiles.product(G_after, k_U_dS_sum, valid_sigmoid_b)
    del G_after, k_U_dS_sum
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    G_q_do_S_sum = G * q_do_S_sum * rsqrt_K
    da_4 = q_do_S_sum * rnorm_q_G * rsqrt_K_ln2
    del q_do_S_sum, rnorm_q_G
    dq_4 = dq_2 * rsqrt_K
    del dq_2
    dq_5 = torch.add(G_q_do_S_sum, dq_4, alpha=2)
    del G_q_do_S_sum, dq_4
    dq_6 = rnorm_q_cubed * dq_5
    del dq_5, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q_G_scaled[:, :, :, None] * do_S, dq_6[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dq_3, k, 2)
    del do_S, dq_3, dq_6, rnorm_q_G_scaled
    dk_4 = dv @ U.mT
    dk_5 = dk_4.tril(-1)
    del dk_4
    dk_6 = G_ij * dk_5
    db_5 = kk * dk_6
    dk_7 = w_scale_2[:, :, None] * db_5
    dk_8 = dk_7.sum(3)
    del dk_7
    db_6 = tiles.scale_(db_5, rnorm_k[:, :, :, None])
    del db_5
    db_7 = db_6.sum(2)
    del db_6
    da_5 = tiles.addcmul_(2 * da_2, dk_5, kk_scaled_scaled, -2)
    del da_2, dk_5, kk_scaled_scaled
    da_6 = tiles.product_(G_ij, da_5, ln2)
    del G_ij, da_5
    da_7 = tiles.segment_sum_grad(da_6)
    del da_6
    dk_9 = w_scale_2[:, :, None] * dk_6
    del w_scale_2
    dk_10 = tiles.scale_(dk_6, rnorm_k[:, :, :, None])
    del dk_6
    db_8 = tiles.addcmul_(valid_rnorm_k * 2 * db_4, db_7, valid_rnorm_k, -2)
    del valid_rnorm_k
    db_9 = tiles.product(sigmoid_b, db_1, db_8)
    del db_8, sigmoid_b
    dk_11 = torch.add(-2 * dk_8, dk_3, alpha=2)
    del dk_3, dk_8
    db = torch.addcmul(db_9, db_1, dlog2_G_after_1, value=2)
    del db_1, db_9, dlog2_G_after_1
    dk_12 = tiles.scale_(dk_9, rnorm_k[:, :, :, None])
    del dk_9, rnorm_k
    dk_13 = k * dk_2
    dk_14 = dk_13.sum(3)
    del dk_13
    dk_15 = tiles.addcmul_(valid_sigmoid_b * 2 * db_4, G, dk_14, -1)
    dk_15 = tiles.addcmul_(dk_15, db_7, valid_sigmoid_b, -2)
    del G, db_4, db_7, valid_sigmoid_b
    dk_16 = tiles.addcmul_(dk_11 * -1 * rnorm_k_cubed, dk_15, rnorm_k_cubed, -1)
    del dk_11, dk_15, rnorm_k_cubed
    dk_17 = torch.addcmul(-2 * dk_12.permute(0, 1, 3, 2), w_scale[:, :, None], dk_10, value=-2)
    del dk_10, dk_12, w_scale
    dk = tiles.addcmul_(dk_16[:, :, :, None] * k, G_after_w_scale[:, :, :, None], U_dS, 2)
    dk = tiles.addcmul_(dk, rnorm_k_G[:, :, :, None], dk_2, -1)
    dk = tiles.addmm_(tiles.addmm_(dk, dk_17.mT, k), dk_1.mT, q, 2)
    del G_after_w_scale, U_dS, dk_1, dk_16, dk_17, dk_2
    da_8 = dk_14 * rnorm_k_G * ln2
    del dk_14, rnorm_k_G
    da_9 = da_4 - da_8
    del da_4, da_8
    da_10 = tiles.suffix_sum(da_9, 2)
    del da_9
    da_11 = dlog2_G_C_2 + da_3 + da_7 + da_10
    del da_10, da_3, da_7, dlog2_G_C_2
    da_12 = valid * da_11
    del da_11
    da_13 = da_1 * da_12
    del da_1
    da = (exp_A_log_scaled * -1)[:, :, None] * da_13
    dA_log_1 = log2_D_2 * da_12
    del da_12, log2_D_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    dA_log = dA_log_2 * exp_A_log_scaled * -1
    del dA_log_2
    ddt_bias_1 = da_13.sum(2)
    del da_13
    ddt_bias = ddt_bias_1 * exp_A_log_scaled * -1
    del ddt_bias_1, exp_A_log_scaled
    return (dq, dk, dv, da, db, dA_log, ddt_bias), (dS_end,)


chunked_backward.unread = (2,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_b = torch.sigmoid(b_)
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    w_scale = rnorm_k * sigmoid_b
    del sigmoid_b
    rnorm_q_scaled = rnorm_q * rsqrt_K
    del rnorm_q
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    q_ = rnorm_q_scaled[:, :, None] * q
    del rnorm_q_scaled
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    f_scale = alpha * rnorm_k
    del rnorm_k
    f = (f_scale * -1)[:, :, None] * k
    del f_scale
    k_scaled = w_scale[:, :, None] * k
    del w_scale
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        v_c,
        alpha_c,
        k_scaled_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            v,
            alpha[:, :, None, None],
            k_scaled[:, :, :, None],
            q_,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_c + fS
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, k_scaled_c, u_[:, None], 2)
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
    del alpha, f, k_scaled, q_
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_b = torch.sigmoid(b_)
    w_scale = rnorm_k * sigmoid_b
    del sigmoid_b
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    f_scale = alpha * rnorm_k
    del rnorm_k
    f = (f_scale * -1)[:, :, None] * k
    del f_scale
    k_scaled = w_scale[:, :, None] * k
    del w_scale
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        v_c,
        alpha_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            v,
            alpha[:, :, None, None],
            k_scaled[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_c + fS
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, k_scaled_c, u_[:, None], 2)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del alpha, f, k_scaled
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_b = torch.sigmoid(b_)
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -sigmoid_b + 1
    ddt_bias_1 = torch.sigmoid(alpha_1)
    del alpha_1
    w_scale = rnorm_k * sigmoid_b
    rnorm_q_scaled = rnorm_q * rsqrt_K
    alpha_3 = exp_A_log * alpha_2
    del alpha_2
    q_ = rnorm_q_scaled[:, :, None] * q
    alpha_4 = alpha_3 * -1
    alpha = torch.exp(alpha_4)
    del alpha_4
    f_scale = alpha * rnorm_k
    f = (f_scale * -1)[:, :, None] * k
    fS = (f[..., None, :] @ S).squeeze(-2)
    del f
    u_ = v + fS
    del fS
    dq_scaled_1 = (w_scale[:, :, None] * k)[:, :, :, None] * u_[:, :, None]
    dq_scaled_2 = tiles.addcmul_(2 * dq_scaled_1, alpha[:, :, None, None], S)
    del dq_scaled_1
    dq_scaled = (do[..., None, :] @ dq_scaled_2.mT).squeeze(-2)
    del dq_scaled_2
    dS_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    q_dq_scaled = q * dq_scaled
    q_dq_scaled_sum = q_dq_scaled.sum(2)
    del q_dq_scaled
    dnorm2_q_eps = tiles.product(rnorm_q, rnorm_q, q_dq_scaled_sum, rnorm_q_scaled, -0.5)
    del q_dq_scaled_sum, rnorm_q
    w_scale_f_scale = w_scale * f_scale
    dq = tiles.addcmul_(rnorm_q_scaled[:, :, None] * dq_scaled, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_scaled, rnorm_q_scaled
    k_scaled = w_scale_f_scale[:, :, None] * k
    del w_scale_f_scale
    dS_before_2_rows = scan.Rows(steps, H, True)
    dv_1_rows = scan.Rows(steps, H, True)
    dv_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dS_before_1_c,
        k_c,
        alpha_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            k,
            alpha[:, :, None, None],
            k_scaled[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dv_1 = torch.add(2 * dS, dS_before_1_c, alpha=2)
        dv_2 = k_c[:, :, None] * dv_1
        dv_3 = torch.sum(dv_2, 1, out=dv_3_rows.room(n))
        dS_before = tiles.addcmul_(alpha_c * dS_before_2, k_scaled_c, dv_3[:, None], -1)
        dS_before_2_rows.put(dS_before_2)
        dv_1_rows.put(dv_1)
        dv_3_rows.put(dv_3)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    dv_1 = dv_1_rows.joined()
    dv_3 = dv_3_rows.joined()
    del dS_before_2_rows
    del dv_1_rows
    del dv_3_rows
    del dS_before_1, k_scaled
    dk_1 = u_[:, :, None] * dv_1
    del dv_1
    dk_2 = dk_1.sum(3)
    del dk_1
    db_2 = u_ * dv_3
    del u_
    db_3 = db_2.sum(2)
    del db_2
    dv = w_scale[:, :, None] * dv_3
    del dv_3
    db = tiles.product(db_3, db_1, w_scale)
    del db_1
    dk_scaled = (dv[..., None, :] @ S.mT).squeeze(-2)
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(2)
    del k_dk_scaled
    drnorm_k = tiles.addcmul_(sigmoid_b * db_3, alpha, k_dk_scaled_sum, -1)
    del db_3, sigmoid_b
    dnorm2_k_eps = tiles.product(rnorm_k, rnorm_k, rnorm_k, drnorm_k, -0.5)
    del drnorm_k
    ddt_bias_2 = S * dS_before_2
    del dS_before_2
    ddt_bias_3 = ddt_bias_2.sum(2)
    del ddt_bias_2
    ddt_bias_4 = ddt_bias_3.sum(2)
    del ddt_bias_3
    ddt_bias_5 = torch.addcmul(ddt_bias_4, rnorm_k, k_dk_scaled_sum, value=-1)
    del ddt_bias_4, k_dk_scaled_sum, rnorm_k
    ddt_bias_6 = alpha * ddt_bias_5
    del alpha, ddt_bias_5
    ddt_bias = tiles.product(exp_A_log, ddt_bias_6, ddt_bias_1, -1)
    del ddt_bias_1, exp_A_log
    dA_log = ddt_bias_6 * alpha_3 * -1
    del alpha_3, ddt_bias_6
    dk = tiles.addcmul_(w_scale[:, :, None] * dk_2, dnorm2_k_eps[:, :, None], k, 2)
    dk = tiles.addcmul_(dk, f_scale[:, :, None], dk_scaled, -1)
    del dk_2, dk_scaled, dnorm2_k_eps, f_scale, w_scale
    return (dq, dk, dv, ddt_bias, db, dA_log, ddt_bias), (dS_end,)
