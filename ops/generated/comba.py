"""comba: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + beta * u @ (v - sigmoid(s) * (S[t-1].T @ u)).T
o[t] = -K**-0.5 * (S[t].T @ (u * d - unit(q)))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = beta * u,  f = -u * sigmoid(s)
  q_ = -K**-0.5 * (u * d - unit(q))
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f[i]^T (G[i-1]/G[j]) w[j],  j < i
  U = (I - P)^-1 (v + (f * G[i-1]) S_in)
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "comba"
SPEC_HASH = "76e18e4efac820ea31c7f9753f42bfb0a7d8d90cb3398e09662ae8617e71ff73"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("s", ()), ("d", ()))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None], -1)
    del exp_A_log, log2_D_2
    beta = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_s = torch.sigmoid(s)
    kk = k @ k.mT
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
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = torch.exp2(log2_G_before)
    del log2_G_before
    log2_G_before_ij = tiles.segment_sum(log2_D, exclusive=True)
    G_before_ij = tiles.apply_(torch.exp2_, log2_G_before_ij)
    del log2_G_before_ij
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
    qk = q @ k.mT
    kk_G_before_ij = tiles.product_(G_before_ij, kk)
    del G_before_ij
    valid_beta = valid * beta
    valid_beta_2 = valid * beta
    del beta
    w_scale = rnorm_k * valid_beta_2
    del valid_beta_2
    w_scale_2 = rnorm_k * valid_beta
    del valid_beta
    G_after_w_scale = G_after * w_scale_2
    del G_after, w_scale_2
    rnorm_k_G_before = rnorm_k * G_before
    del G_before
    rnorm_k_scaled = d[:, :, None] * rnorm_k
    f_scale = tiles.scale_(rnorm_k, sigmoid_s[:, :, None])
    del rnorm_k
    U_1 = tiles.scale_(rnorm_k_G_before, sigmoid_s[:, :, None])
    del rnorm_k_G_before, sigmoid_s
    G_scaled = G * rsqrt_K
    del G
    k_scaled = G_after_w_scale[:, :, :, None] * k
    del G_after_w_scale
    A_1 = tiles.addcmul_(rnorm_k_scaled[:, :, :, None] * kk, rnorm_q[:, :, :, None], qk, -1)
    A = tiles.product_(G_ij, A_1)
    del A_1, G_ij
    P = tiles.product_(kk_G_before_ij, w_scale[:, :, None], f_scale[:, :, :, None], -1)
    del f_scale, kk_G_before_ij
    A_scaled = tiles.scale_(A, w_scale[:, :, None])
    del A, w_scale
    inv = tiles.inverse(P)
    del P
    q_scaled = tiles.scale_(q, rnorm_q[:, :, :, None])
    del rnorm_q
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        k_c,
        v_c,
        U_1_c,
        inv_c,
        rnorm_k_scaled_c,
        q_scaled_c,
        G_scaled_c,
        A_scaled_c,
        G_C_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k,
            v,
            U_1[:, :, :, None],
            inv,
            rnorm_k_scaled[:, :, :, None],
            q_scaled,
            G_scaled[:, :, :, None],
            A_scaled,
            G_C[:, :, None, None],
            k_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        kS = torch.bmm(k_c, S)
        U_3 = torch.addcmul(v_c, U_1_c, kS, value=-1)
        U = torch.bmm(inv_c, U_3, out=U_rows.room(n))
        o_1 = scan.addmm(rnorm_k_scaled_c * kS, q_scaled_c, S, -1)
        o = scan.addmm(G_scaled_c * -1 * o_1, A_scaled_c, U, -1 * rsqrt_K)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_c, U)
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
    del A_scaled, G_C, G_scaled, U_1, k_scaled, q_scaled, rnorm_k_scaled
    return (o,), (S_end,), (S, kk, qk, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, _) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None], -1)
    del exp_A_log, log2_D_2
    beta = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_s = torch.sigmoid(s)
    kk = k @ k.mT
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = torch.exp2(log2_G_before)
    del log2_G_before
    log2_G_before_ij = tiles.segment_sum(log2_D, exclusive=True)
    G_before_ij = tiles.apply_(torch.exp2_, log2_G_before_ij)
    del log2_G_before_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    qk = q @ k.mT
    kk_G_before_ij = tiles.product_(G_before_ij, kk)
    del G_before_ij
    valid_beta = valid * beta
    valid_beta_2 = valid * beta
    del beta
    w_scale = rnorm_k * valid_beta_2
    del valid_beta_2
    w_scale_2 = rnorm_k * valid_beta
    del valid_beta
    G_after_w_scale = G_after * w_scale_2
    del G_after, w_scale_2
    rnorm_k_G_before = rnorm_k * G_before
    del G_before
    f_scale = tiles.scale_(rnorm_k, sigmoid_s[:, :, None])
    del rnorm_k
    U_1 = tiles.scale_(rnorm_k_G_before, sigmoid_s[:, :, None])
    del rnorm_k_G_before, sigmoid_s
    k_scaled = G_after_w_scale[:, :, :, None] * k
    del G_after_w_scale
    P = tiles.product_(kk_G_before_ij, w_scale[:, :, None], f_scale[:, :, :, None], -1)
    del f_scale, kk_G_before_ij, w_scale
    inv = tiles.inverse(P)
    del P
    k_scaled_2 = U_1[:, :, :, None] * k
    del U_1
    S_rows = scan.Rows(steps, H)
    U_2_rows = scan.Rows(steps, H)
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
        U_4 = torch.baddbmm(v_c, k_scaled_2_c, S, alpha=-1)
        U_2 = torch.bmm(inv_c, U_4, out=U_2_rows.room(n))
        S_new_2 = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new_2 = scan.addmm(S_new_2, k_scaled_c, U_2)
        if keep:
            U_2_rows.put(U_2)
        S = S_new_2
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        U_2 = U_2_rows.joined()
    del S_rows
    del U_2_rows
    del G_C, k_scaled, k_scaled_2
    return (), (S_end,), (S, kk, qk, inv, U_2) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias, s, d) = args
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
    beta = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_s = torch.sigmoid(s)
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
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = torch.exp2(log2_G_before)
    del log2_G_before
    log2_G_before_ij = tiles.segment_sum(log2_D, exclusive=True)
    G_before_ij = tiles.apply_(torch.exp2_, log2_G_before_ij)
    del log2_G_before_ij
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
    ln2 = tiles.LN2
    log2e = tiles.LOG2E
    db_1 = -beta + 1
    ds_1 = -sigmoid_s + 1
    da_1 = torch.sigmoid(log2_D_1)
    del log2_D_1
    kk_G_before_ij = kk * G_before_ij
    valid_beta = valid * beta
    valid_beta_2 = valid * beta
    w_scale = rnorm_k * valid_beta_2
    del valid_beta_2
    w_scale_2 = rnorm_k * valid_beta
    G_after_w_scale = G_after * w_scale_2
    rnorm_k_G_before = rnorm_k * G_before
    valid_rnorm_k = valid * rnorm_k
    rnorm_k_squared = rnorm_k * rnorm_k
    rnorm_k_G = rnorm_k * G
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    rnorm_q_G = rnorm_q * G
    d_scaled = d * rsqrt_K
    exp_A_log_scaled = exp_A_log * log2e
    del exp_A_log
    sigmoid_s_scaled = sigmoid_s * ln2
    rsqrt_K_ln2 = rsqrt_K * ln2
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    rnorm_k_scaled = d[:, :, None] * rnorm_k
    f_scale = sigmoid_s[:, :, None] * rnorm_k
    U_1 = sigmoid_s[:, :, None] * rnorm_k_G_before
    G_scaled = G * rsqrt_K
    w_scale_scaled = w_scale_2 * rsqrt_K
    dlog2_G_ij_1 = tiles.addcmul_(rnorm_k_scaled[:, :, :, None] * kk, rnorm_q[:, :, :, None], qk, -1)
    dv_1 = G_ij * dlog2_G_ij_1
    do_scaled = rnorm_q_G[:, :, :, None] * do
    do_scaled_2 = tiles.product(do, d_scaled[:, :, None, None], rnorm_k_G[:, :, :, None])
    do_U = do @ U.mT
    G_ij_do_U = tiles.product_(G_ij, do_U)
    del G_ij, do_U
    dlog2_G_ij_2 = tiles.product_(dlog2_G_ij_1, G_ij_do_U)
    del dlog2_G_ij_1
    db_2 = dlog2_G_ij_2.sum(2)
    G_ij_do_U_scaled = w_scale[:, :, None] * G_ij_do_U
    drnorm_q_1 = qk * G_ij_do_U_scaled
    drnorm_q_2 = drnorm_q_1.sum(3)
    del drnorm_q_1
    G_ij_do_U_scaled_2 = rnorm_q[:, :, :, None] * G_ij_do_U
    kk_G_ij_do_U = tiles.product_(G_ij_do_U, kk)
    del G_ij_do_U
    dd_1 = rnorm_k[:, :, :, None] * kk_G_ij_do_U
    dd_2 = dd_1.sum(2)
    del dd_1
    dd_3 = dd_2 * w_scale_2
    del dd_2
    dd_4 = dd_3.sum(2)
    del dd_3
    dk_1 = tiles.scale_(kk_G_ij_do_U, w_scale[:, :, None])
    del kk_G_ij_do_U
    dk_2 = dk_1.sum(3)
    del dk_1
    dlog2_G_ij = tiles.scale_(dlog2_G_ij_2, w_scale[:, :, None], rsqrt_K_ln2, -1)
    del dlog2_G_ij_2
    da_2 = tiles.segment_sum_grad(dlog2_G_ij)
    del dlog2_G_ij
    dk_3 = tiles.product(G_ij_do_U_scaled, d_scaled[:, :, None, None], rnorm_k[:, :, :, None])
    db_3 = db_2 * rsqrt_K
    del db_2
    dv_2 = tiles.scale_(dv_1, w_scale_scaled[:, :, None])
    del dv_1
    dq_1 = tiles.scale_(G_ij_do_U_scaled, rnorm_q[:, :, :, None], rsqrt_K)
    del G_ij_do_U_scaled
    dk_4 = tiles.scale_(G_ij_do_U_scaled_2, w_scale_scaled[:, :, None])
    del G_ij_do_U_scaled_2, w_scale_scaled
    k_scaled = G_after_w_scale[:, :, :, None] * k
    kS_rows = scan.Rows(steps, H, True)
    qS_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    S_dS_sum_rows = scan.Rows(steps, H, True)
    dk_scaled_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_6_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        k_scaled_c,
        dv_2_c,
        do_c,
        inv_c,
        do_scaled_2_c,
        U_1_c,
        S_c,
        U_c,
        k_c,
        q_c,
        S_c_2,
        q_c_2,
        do_scaled_c,
        G_C_c,
        k_c_2,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled,
            dv_2.mT,
            do,
            inv.mT,
            do_scaled_2,
            U_1[:, :, :, None],
            S,
            U,
            k,
            q,
            S.mT,
            q.mT,
            do_scaled,
            G_C[:, :, None, None],
            k.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_3 = scan.addmm(torch.bmm(k_scaled_c, dS), dv_2_c, do_c, -1)
        dv = torch.bmm(inv_c, dv_3, out=dv_rows.room(n))
        dk_5 = tiles.addcmul_(-do_scaled_2_c, U_1_c, dv, -1)
        S_dS = S_c * dS
        S_dS_sum = torch.sum(S_dS, 1, out=S_dS_sum_rows.room(n))
        dk_scaled = torch.bmm(U_c, dS.mT, out=dk_scaled_rows.room(n))
        kS = torch.bmm(k_c, S_c, out=kS_rows.room(n))
        qS = torch.bmm(q_c, S_c, out=qS_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dk_6 = torch.bmm(dk_5, S_c_2, out=dk_6_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), k_c_2, dk_5)
        dS_before = scan.addmm(dS_before, q_c_2, do_scaled_c, rsqrt_K)
        kS_rows.put(kS)
        qS_rows.put(qS)
        do_S_rows.put(do_S)
        S_dS_sum_rows.put(S_dS_sum)
        dk_scaled_rows.put(dk_scaled)
        dv_rows.put(dv)
        dk_6_rows.put(dk_6)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    kS = kS_rows.joined()
    qS = qS_rows.joined()
    do_S = do_S_rows.joined()
    S_dS_sum = S_dS_sum_rows.joined()
    dk_scaled = dk_scaled_rows.joined()
    dv = dv_rows.joined()
    dk_6 = dk_6_rows.joined()
    del kS_rows
    del qS_rows
    del do_S_rows
    del S_dS_sum_rows
    del dk_scaled_rows
    del dv_rows
    del dk_6_rows
    del U_1, do_scaled, do_scaled_2, dv_2, k_scaled
    qS_do = qS * do
    qS_do_sum = qS_do.sum(3)
    del qS_do
    kS_do = kS * do
    kS_do_sum = kS_do.sum(3)
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C)
    del dlog2_G_C
    dlog2_G_1 = tiles.addcmul_(rnorm_k_scaled[:, :, :, None] * kS, rnorm_q[:, :, :, None], qS, -1)
    del qS, rnorm_k_scaled, rnorm_q
    dlog2_G_2 = tiles.product_(dlog2_G_1, do)
    del dlog2_G_1
    dlog2_G_3 = dlog2_G_2.sum(3)
    del dlog2_G_2
    do_S_scaled = (rnorm_q_G * rsqrt_K)[:, :, :, None] * do_S
    del do_S, rnorm_q_G
    kS_do_scaled = tiles.scale_(kS_do, rnorm_k_G[:, :, :, None])
    del kS_do, rnorm_k_G
    kS_do_scaled_sum = kS_do_scaled.sum(2)
    del kS_do_scaled
    dd_5 = kS_do_scaled_sum.sum(2)
    del kS_do_scaled_sum
    dlog2_G = G * dlog2_G_3 * -1 * rsqrt_K_ln2
    del dlog2_G_3
    da_3 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dk_7 = tiles.product(G, kS_do_sum, d_scaled[:, :, None])
    del G, kS_do_sum
    dd_6 = dd_5 * rsqrt_K
    del dd_5
    drnorm_q_3 = drnorm_q_2 * rsqrt_K
    del drnorm_q_2
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dk_8 = tiles.product(G_after, k_dk_scaled_sum, valid_beta)
    del G_after
    dlog2_G_after_1 = k_dk_scaled_sum * G_after_w_scale
    del k_dk_scaled_sum
    dlog2_G_after = dlog2_G_after_1 * ln2
    da_4 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    drnorm_q = torch.addcmul(drnorm_q_3, qS_do_sum, G_scaled)
    del G_scaled, drnorm_q_3, qS_do_sum
    dd_7 = dd_4 * rsqrt_K
    del dd_4
    dd = -dd_6 - dd_7
    del dd_6, dd_7
    dq_2 = rnorm_q_cubed * drnorm_q
    del drnorm_q, rnorm_q_cubed
    dq = torch.addcmul(do_S_scaled, dq_2[:, :, :, None], q, value=-1)
    dq = tiles.addmm_(dq, dq_1, k)
    del do_S_scaled, dq_1, dq_2
    dk_9 = dv @ U.mT
    dk_10 = dk_9.tril(-1)
    del dk_9
    ds_2 = kS * dv
    del kS
    ds_3 = rnorm_k_G_before[:, :, :, None] * ds_2
    ds_4 = ds_3.sum(2)
    del ds_3
    ds_5 = ds_4.sum(2)
    del ds_4
    da_5 = ds_2.sum(3)
    del ds_2
    da_6 = tiles.product(da_5, rnorm_k_G_before, (sigmoid_s_scaled * -1)[:, :, None])
    del rnorm_k_G_before
    ds_6 = tiles.product_(kk_G_before_ij, dk_10)
    del kk_G_before_ij
    dk_11 = w_scale[:, :, None] * ds_6
    dk_12 = dk_11.sum(3)
    del dk_11
    ds_7 = tiles.scale_(ds_6, rnorm_k[:, :, :, None])
    del ds_6, rnorm_k
    ds_8 = ds_7.sum(2)
    ds_9 = ds_8 * w_scale_2
    del w_scale_2
    ds_10 = ds_9.sum(2)
    del ds_9
    da_7 = tiles.product_(ds_7, w_scale[:, :, None], sigmoid_s_scaled[:, :, None, None], -1)
    del ds_7, sigmoid_s_scaled
    da_8 = tiles.segment_sum_grad(da_7, exclusive=True)
    del da_7
    da_9 = tiles.suffix_sum(da_6, 2, exclusive=True)
    del da_6
    da_10 = dlog2_G_C_2 + da_3 + da_4 + da_2 + da_8 + da_9
    del da_2, da_3, da_4, da_8, da_9, dlog2_G_C_2
    dk_13 = tiles.product_(G_before_ij, dk_10, w_scale[:, :, None], f_scale[:, :, :, None])
    del G_before_ij, dk_10, f_scale, w_scale
    dk_14 = -dk_3 - dk_13
    del dk_13, dk_3
    db_4 = sigmoid_s[:, :, None] * ds_8
    del ds_8
    db_5 = tiles.addcmul_(valid_rnorm_k * -1 * db_3, valid_rnorm_k, db_4, -1)
    del valid_rnorm_k
    db_6 = tiles.product(beta, db_1, db_5)
    del beta, db_5
    dk_15 = tiles.product(G_before, da_5, sigmoid_s[:, :, None])
    del G_before, da_5
    dk_16 = tiles.addcmul_(-dk_15, valid_beta, db_3, -1)
    dk_16 = tiles.addcmul_(dk_16, valid_beta, db_4, -1)
    del db_3, db_4, dk_15, valid_beta
    ds_11 = -ds_5 - ds_10
    del ds_10, ds_5
    ds = tiles.product(sigmoid_s, ds_1, ds_11)
    del ds_1, ds_11
    dk_17 = tiles.addcmul_(dk_8 - dk_7, d_scaled[:, :, None], dk_2, -1)
    dk_17 = tiles.addcmul_(dk_17, sigmoid_s[:, :, None], dk_12, -1)
    del d_scaled, dk_12, dk_2, dk_7, dk_8, sigmoid_s
    da_11 = valid * da_10
    del da_10
    dA_log_1 = log2_D_2 * da_11
    del log2_D_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    da_12 = da_1 * da_11
    del da_1, da_11
    da = (exp_A_log_scaled * -1)[:, :, None] * da_12
    ddt_bias_1 = da_12.sum(2)
    del da_12
    ddt_bias = ddt_bias_1 * exp_A_log_scaled * -1
    del ddt_bias_1
    dA_log = dA_log_2 * exp_A_log_scaled * -1
    del dA_log_2, exp_A_log_scaled
    db = torch.addcmul(db_6, db_1, dlog2_G_after_1)
    del db_1, db_6, dlog2_G_after_1
    dk_18 = tiles.addcmul_(dk_17 * -1 * rnorm_k_cubed, dk_16, rnorm_k_cubed, -1)
    del dk_16, dk_17, rnorm_k_cubed
    dk_19 = dk_14 + dk_14.permute(0, 1, 3, 2)
    del dk_14
    dk = torch.addcmul(dk_6, G_after_w_scale[:, :, :, None], dk_scaled)
    dk = tiles.addcmul_(dk, dk_18[:, :, :, None], k)
    dk = tiles.addmm_(tiles.addmm_(dk, dk_19, k), dk_4.mT, q)
    del G_after_w_scale, dk_18, dk_19, dk_4, dk_6, dk_scaled
    return (dq, dk, dv, da, db, dA_log, ddt_bias, ds, dd), (dS_end,)


chunked_backward.unread = (2,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    sigmoid_s = torch.sigmoid(s)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    beta = torch.sigmoid(b_)
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    w_scale = rnorm_k * beta
    del beta
    f_scale = sigmoid_s * rnorm_k
    del sigmoid_s
    d_rnorm_k = d * rnorm_k
    del rnorm_k
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    f = (f_scale * -1)[:, :, None] * k
    del f_scale
    q_1 = tiles.addcmul_(d_rnorm_k[:, :, None] * k, rnorm_q[:, :, None], q, -1)
    del d_rnorm_k, rnorm_q
    q_2 = q_1 * rsqrt_K
    del q_1
    q_ = q_2 * -1
    del q_2
    w = w_scale[:, :, None] * k
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
        w_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            v,
            alpha[:, :, None, None],
            w[:, :, :, None],
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
        S_new = tiles.addcmul_(S_new, w_c, u_[:, None])
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
    del alpha, f, q_, w
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias, s, _) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    sigmoid_s = torch.sigmoid(s)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    beta = torch.sigmoid(b_)
    w_scale = rnorm_k * beta
    del beta
    f_scale = sigmoid_s * rnorm_k
    del rnorm_k, sigmoid_s
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    f = (f_scale * -1)[:, :, None] * k
    del f_scale
    w = w_scale[:, :, None] * k
    del w_scale
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        v_c,
        alpha_c,
        w_c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            v,
            alpha[:, :, None, None],
            w[:, :, :, None],
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
        S_new = tiles.addcmul_(S_new, w_c, u_[:, None])
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del alpha, f, w
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    sigmoid_s = torch.sigmoid(s)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    beta = torch.sigmoid(b_)
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -beta + 1
    ds_1 = -sigmoid_s + 1
    ddt_bias_1 = torch.sigmoid(alpha_1)
    del alpha_1
    w_scale = rnorm_k * beta
    f_scale = sigmoid_s * rnorm_k
    d_rnorm_k = d * rnorm_k
    alpha_3 = exp_A_log * alpha_2
    del alpha_2
    rnorm_q_scaled = rnorm_q * rsqrt_K
    w_scale_f_scale = w_scale * f_scale
    d_rnorm_k_scaled = d_rnorm_k * rsqrt_K
    alpha_4 = alpha_3 * -1
    alpha = torch.exp(alpha_4)
    del alpha_4
    f = (f_scale * -1)[:, :, None] * k
    fS = (f[..., None, :] @ S).squeeze(-2)
    del f
    u_ = v + fS
    del fS
    dq_1 = (w_scale[:, :, None] * k)[:, :, :, None] * u_[:, :, None]
    dq_2 = torch.addcmul(dq_1, alpha[:, :, None, None], S)
    del dq_1
    dS_before_1 = tiles.addcmul_(d_rnorm_k[:, :, None] * k, rnorm_q[:, :, None], q, -1)
    del d_rnorm_k
    dS_before_2 = dS_before_1 * rsqrt_K
    del dS_before_1
    dq_3 = (do[..., None, :] @ dq_2.mT).squeeze(-2)
    del dq_2
    dnorm2_q_eps_1 = q * dq_3
    dnorm2_q_eps_2 = dnorm2_q_eps_1.sum(2)
    del dnorm2_q_eps_1
    dnorm2_q_eps = tiles.product(rnorm_q, rnorm_q, dnorm2_q_eps_2, rnorm_q_scaled, -0.5)
    del dnorm2_q_eps_2, rnorm_q
    dd_1 = k * dq_3
    dd_2 = dd_1.sum(2)
    del dd_1
    dd_3 = dd_2 * rsqrt_K
    del dd_2
    dd = rnorm_k * dd_3 * -1
    dS_before_3 = do[:, :, None] * dS_before_2[:, :, :, None]
    del dS_before_2
    dq = tiles.addcmul_(rnorm_q_scaled[:, :, None] * dq_3, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, rnorm_q_scaled
    k_scaled = w_scale_f_scale[:, :, None] * k
    del w_scale_f_scale
    dS_before_4_rows = scan.Rows(steps, H, True)
    dv_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dS_before_3_c,
        k_c,
        alpha_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_3,
            k,
            alpha[:, :, None, None],
            k_scaled[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_4 = dS - dS_before_3_c
        dv_1 = k_c[:, :, None] * dS_before_4
        dv_2 = torch.sum(dv_1, 1, out=dv_2_rows.room(n))
        dS_before = tiles.addcmul_(alpha_c * dS_before_4, k_scaled_c, dv_2[:, None], -1)
        dS_before_4_rows.put(dS_before_4)
        dv_2_rows.put(dv_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_4 = dS_before_4_rows.joined()
    dv_2 = dv_2_rows.joined()
    del dS_before_4_rows
    del dv_2_rows
    del dS_before_3, k_scaled
    dk_1 = u_[:, :, None] * dS_before_4
    dk_2 = dk_1.sum(3)
    del dk_1
    db_2 = u_ * dv_2
    del u_
    db_3 = db_2.sum(2)
    del db_2
    dv = w_scale[:, :, None] * dv_2
    del dv_2
    db = tiles.product(db_3, db_1, w_scale)
    del db_1
    dk_scaled = (dv[..., None, :] @ S.mT).squeeze(-2)
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(2)
    del k_dk_scaled
    drnorm_k = tiles.addcmul_(tiles.addcmul_(beta * db_3, d, dd_3, -1), sigmoid_s, k_dk_scaled_sum, -1)
    del beta, db_3, dd_3, sigmoid_s
    dnorm2_k_eps = tiles.product(rnorm_k, rnorm_k, rnorm_k, drnorm_k, -0.5)
    del drnorm_k, rnorm_k
    ds = tiles.product(k_dk_scaled_sum, ds_1, f_scale, -1)
    del ds_1, k_dk_scaled_sum
    ddt_bias_2 = S * dS_before_4
    del dS_before_4
    ddt_bias_3 = ddt_bias_2.sum(2)
    del ddt_bias_2
    ddt_bias_4 = ddt_bias_3.sum(2)
    del ddt_bias_3
    ddt_bias_5 = alpha * ddt_bias_4
    del alpha, ddt_bias_4
    ddt_bias = tiles.product(exp_A_log, ddt_bias_5, ddt_bias_1, -1)
    del ddt_bias_1, exp_A_log
    dA_log = ddt_bias_5 * alpha_3 * -1
    del alpha_3, ddt_bias_5
    dk = tiles.addcmul_(w_scale[:, :, None] * dk_2, dnorm2_k_eps[:, :, None], k, 2)
    dk = tiles.addcmul_(dk, d_rnorm_k_scaled[:, :, None], dq_3, -1)
    dk = tiles.addcmul_(dk, f_scale[:, :, None], dk_scaled, -1)
    del d_rnorm_k_scaled, dk_2, dk_scaled, dnorm2_k_eps, dq_3, f_scale, w_scale
    return (dq, dk, dv, ddt_bias, db, dA_log, ddt_bias, ds, dd), (dS_end,)
