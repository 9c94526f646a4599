"""gated_delta_product: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1]
for i in n:
    S[t] <- S[t] + beta[i] * u @ (v[i] - S[t].T @ u).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = 2 * sigmoid(b)
  u = unit(k[i])

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = beta[i] * u,  f = -u
  q_ = K**-0.5 * unit(q)
  one row m for each of the n micro-steps of a token, t(m) its token
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[m,l] = f[m]^T (G[t(m)]/G[t(l)]) w[l],  l < m
  U = (I - P)^-1 (v + (f * G) S_in)
  A[i,l] = q_[i]^T (G[i]/G[t(l)]) w[l],  t(l) <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w[l] * G[C]/G[t(l)])^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "gated_delta_product"
SPEC_HASH = "66b74cdd626b8f539e99e4d7d3e07c7a1ebc30aa30142f141097fb3378fb9ecc"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("a", ()), ("b", ("n",)))
PARAMS = (("A_log", ()), ("dt_bias", ()))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    n_ = k.shape[3]
    K = q.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None], -1)
    del exp_A_log, log2_D_2
    k_rows = k.flatten(2, 3)
    valid_ = valid[:, :, :, None].expand(-1, -1, -1, n_)
    valid_rows = valid_.flatten(2, 3)
    del valid_
    b_rows = b_.flatten(2, 3)
    sigmoid_b_rows = torch.sigmoid(b_rows)
    del b_rows
    norm2_k_rows = tiles.sum_squares(k_rows, 3)
    norm2_k_rows_eps = norm2_k_rows + 1e-06
    del norm2_k_rows
    rnorm_k_rows = torch.rsqrt(norm2_k_rows_eps)
    del norm2_k_rows_eps
    v_rows = v.flatten(2, 3)
    k_rows_k_rows = k_rows @ k_rows.mT
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_k_rows = q @ k_rows.mT
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    G_2 = G[:, :, :, None].expand(-1, -1, -1, n_)
    G_rows_2 = G_2.flatten(2, 3)
    del G_2
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    G_ij_2 = G_ij[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del G_ij
    G_ij_rows_2 = G_ij_2.permute(0, 1, 2, 4, 3).flatten(2, 3)
    G_ij_rows_2_ = G_ij_rows_2.permute(0, 1, 3, 2)[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del G_ij_rows_2
    G_ij_rows_rows = G_ij_rows_2_.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del G_ij_rows_2_
    G_ij_rows_3 = G_ij_2.flatten(3, 4)
    del G_ij_2
    A = q_k_rows * G_ij_rows_3
    del G_ij_rows_3
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    G_after_2 = G_after[:, :, :, None].expand(-1, -1, -1, n_)
    del G_after
    G_after_rows_2 = G_after_2.flatten(2, 3)
    del G_after_2
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    S_new_1 = valid_rows * sigmoid_b_rows
    S_new_2 = rnorm_k_rows * S_new_1
    del S_new_1
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    S_new_3 = G_after_rows_2 * S_new_2
    del G_after_rows_2, S_new_2
    U_1 = rnorm_k_rows * G_rows_2
    del G_rows_2
    rnorm_q_G = rnorm_q * G
    del G
    P_3 = rnorm_k_rows[:, :, :, None] * G_ij_rows_rows.permute(0, 1, 3, 2)
    del G_ij_rows_rows, rnorm_k_rows
    rnorm_q_scaled = rnorm_q * rsqrt_K
    del rnorm_q
    rnorm_q_G_scaled = rnorm_q_G * rsqrt_K
    del rnorm_q_G
    k_rows_scaled = S_new_3[:, :, :, None] * k_rows
    del S_new_3
    P = tiles.product_(P_3, k_rows_k_rows, P_2[:, :, None], -2)
    del P_3
    A_scaled = tiles.scale_(A, P_2[:, :, None])
    del A, P_2
    inv = tiles.inverse(P)
    del P
    A_scaled_scaled = tiles.scale_(A_scaled, rnorm_q_scaled[:, :, :, None])
    del A_scaled, rnorm_q_scaled
    q_scaled = tiles.scale_(q, rnorm_q_G_scaled[:, :, :, None])
    del rnorm_q_G_scaled
    k_rows_scaled_2 = U_1[:, :, :, None] * k_rows
    del U_1, k_rows
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_rows_c,
        k_rows_scaled_2_c,
        inv_c,
        q_scaled_c,
        A_scaled_scaled_c,
        G_C_c,
        k_rows_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v_rows,
            k_rows_scaled_2,
            inv,
            q_scaled,
            A_scaled_scaled,
            G_C[:, :, None, None],
            k_rows_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_2 = torch.baddbmm(v_rows_c, k_rows_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_2, out=U_rows.room(n))
        o = torch.bmm(q_scaled_c, S, out=o_rows.room(n))
        o = scan.addmm(o, A_scaled_scaled_c, U, 2)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_rows_scaled_c, U, 2)
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
    del A_scaled_scaled, G_C, k_rows_scaled, k_rows_scaled_2, q_scaled, v_rows
    return (o,), (S_end,), (S, k_rows_k_rows, q_k_rows, inv, U) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    n_ = k.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None], -1)
    del exp_A_log, log2_D_2
    k_rows = k.flatten(2, 3)
    valid_ = valid[:, :, :, None].expand(-1, -1, -1, n_)
    valid_rows = valid_.flatten(2, 3)
    del valid_
    b_rows = b_.flatten(2, 3)
    sigmoid_b_rows = torch.sigmoid(b_rows)
    del b_rows
    norm2_k_rows = tiles.sum_squares(k_rows, 3)
    norm2_k_rows_eps = norm2_k_rows + 1e-06
    del norm2_k_rows
    rnorm_k_rows = torch.rsqrt(norm2_k_rows_eps)
    del norm2_k_rows_eps
    v_rows = v.flatten(2, 3)
    k_rows_k_rows = k_rows @ k_rows.mT
    q_k_rows = q @ k_rows.mT
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    G_2 = G[:, :, :, None].expand(-1, -1, -1, n_)
    del G
    G_rows_2 = G_2.flatten(2, 3)
    del G_2
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    G_ij_2 = G_ij[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del G_ij
    G_ij_rows_2 = G_ij_2.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del G_ij_2
    G_ij_rows_2_ = G_ij_rows_2.permute(0, 1, 3, 2)[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del G_ij_rows_2
    G_ij_rows_rows = G_ij_rows_2_.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del G_ij_rows_2_
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    G_after_2 = G_after[:, :, :, None].expand(-1, -1, -1, n_)
    del G_after
    G_after_rows_2 = G_after_2.flatten(2, 3)
    del G_after_2
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    S_new_1 = valid_rows * sigmoid_b_rows
    S_new_2 = rnorm_k_rows * S_new_1
    del S_new_1
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    S_new_3 = G_after_rows_2 * S_new_2
    del G_after_rows_2, S_new_2
    U_1 = rnorm_k_rows * G_rows_2
    del G_rows_2
    P_3 = rnorm_k_rows[:, :, :, None] * G_ij_rows_rows.permute(0, 1, 3, 2)
    del G_ij_rows_rows, rnorm_k_rows
    k_rows_scaled = S_new_3[:, :, :, None] * k_rows
    del S_new_3
    P = tiles.product_(P_3, k_rows_k_rows, P_2[:, :, None], -2)
    del P_2, P_3
    inv = tiles.inverse(P)
    del P
    k_rows_scaled_2 = U_1[:, :, :, None] * k_rows
    del U_1, k_rows
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_rows_c,
        k_rows_scaled_2_c,
        inv_c,
        G_C_c,
        k_rows_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v_rows,
            k_rows_scaled_2,
            inv,
            G_C[:, :, None, None],
            k_rows_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_2 = torch.baddbmm(v_rows_c, k_rows_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_2, out=U_rows.room(n))
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_rows_scaled_c, U, 2)
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
    del G_C, k_rows_scaled, k_rows_scaled_2, v_rows
    return (), (S_end,), (S, k_rows_k_rows, q_k_rows, inv, U) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, k_rows_k_rows, q_k_rows, inv, U) = kept
    (do,) = douts
    n_ = k.shape[3]
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    log2_D_3 = (exp_A_log * -1)[:, :, None] * log2_D_2
    k_rows = k.flatten(2, 3)
    valid_ = valid[:, :, :, None].expand(-1, -1, -1, n_)
    valid_rows = valid_.flatten(2, 3)
    del valid_
    b_rows = b_.flatten(2, 3)
    sigmoid_b_rows = torch.sigmoid(b_rows)
    del b_rows
    norm2_k_rows = tiles.sum_squares(k_rows, 3)
    norm2_k_rows_eps = norm2_k_rows + 1e-06
    del norm2_k_rows
    rnorm_k_rows = torch.rsqrt(norm2_k_rows_eps)
    del norm2_k_rows_eps
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
    G_2 = G[:, :, :, None].expand(-1, -1, -1, n_)
    G_rows_2 = G_2.flatten(2, 3)
    del G_2
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    G_ij_2 = G_ij[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    G_ij_rows_2 = G_ij_2.permute(0, 1, 2, 4, 3).flatten(2, 3)
    G_ij_rows_2_ = G_ij_rows_2.permute(0, 1, 3, 2)[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del G_ij_rows_2
    G_ij_rows_rows = G_ij_rows_2_.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del G_ij_rows_2_
    G_ij_rows_3 = G_ij_2.flatten(3, 4)
    del G_ij_2
    q_k_rows_G_ij_rows = q_k_rows * G_ij_rows_3
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    G_after_2 = G_after[:, :, :, None].expand(-1, -1, -1, n_)
    G_after_rows_2 = G_after_2.flatten(2, 3)
    del G_after_2
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    ln2 = tiles.LN2
    log2e = tiles.LOG2E
    db_1 = -sigmoid_b_rows + 1
    da_1 = torch.sigmoid(log2_D_1)
    del log2_D_1
    dG_after_rows_1 = valid_rows * sigmoid_b_rows
    dG_after_rows_2 = rnorm_k_rows * dG_after_rows_1
    P_1 = valid_rows * sigmoid_b_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    db_2 = G_after_rows_2 * dG_after_rows_2
    U_1 = rnorm_k_rows * G_rows_2
    rnorm_q_G = rnorm_q * G
    db_3 = valid_rows * rnorm_k_rows
    del valid_rows
    dk_1 = rnorm_k_rows * rnorm_k_rows
    rnorm_k_rows_cubed = rnorm_k_rows * dk_1
    del dk_1
    exp_A_log_scaled = exp_A_log * log2e
    del exp_A_log
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    P_3 = rnorm_k_rows[:, :, :, None] * G_ij_rows_rows.permute(0, 1, 3, 2)
    dv_1 = rnorm_q[:, :, :, None] * q_k_rows_G_ij_rows
    dk_2 = P_2[:, :, None] * G_ij_rows_rows.permute(0, 1, 3, 2)
    del G_ij_rows_rows
    rnorm_q_scaled = rnorm_q * rsqrt_K
    dk_3 = dG_after_rows_2 * rsqrt_K
    rnorm_q_G_scaled = rnorm_q_G * rsqrt_K
    dv_2 = dv_1.mT @ do
    dv_3 = tiles.scale_(dv_2, dk_3[:, :, :, None])
    del dv_2
    do_scaled = rnorm_q_G[:, :, :, None] * do
    del rnorm_q_G
    dq_1 = tiles.scale_(q_k_rows_G_ij_rows, P_2[:, :, None])
    del q_k_rows_G_ij_rows
    k_rows_scaled = U_1[:, :, :, None] * k_rows
    do_U = do @ U.mT
    dG_ij_rows = tiles.product(q_k_rows, do_U, (P_2 * 2)[:, :, None], rnorm_q_scaled[:, :, :, None])
    db_4 = tiles.product_(dv_1, do_U)
    del dv_1
    db_5 = db_4.sum(2)
    del db_4
    da_2 = dG_ij_rows.unflatten(3, (-1, n_))
    del dG_ij_rows
    G_ij_rows_do_U = G_ij_rows_3 * do_U
    del G_ij_rows_3
    dq_2 = P_2[:, :, None] * G_ij_rows_do_U
    dk_4 = tiles.scale_(G_ij_rows_do_U, rnorm_q[:, :, :, None])
    del G_ij_rows_do_U, rnorm_q
    dk_5 = dk_4.mT @ q
    del dk_4
    db_6 = db_5 * rsqrt_K
    del db_5
    dq_3 = tiles.product_(dq_1, do_U)
    del do_U, dq_1
    dq_4 = dq_3.sum(3)
    del dq_3
    dq_5 = tiles.scale_(dq_2, rnorm_q_scaled[:, :, :, None])
    del dq_2
    k_rows_scaled_2 = db_2[:, :, :, None] * k_rows
    S_dS_sum_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dv_5_rows = scan.Rows(steps, H, True)
    dk_6_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        k_rows_scaled_2_c,
        dv_3_c,
        inv_c,
        S_c,
        U_c,
        do_c,
        S_c_2,
        G_C_c,
        q_c,
        do_scaled_c,
        k_rows_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k_rows_scaled_2,
            dv_3,
            inv.mT,
            S,
            U,
            do,
            S.mT,
            G_C[:, :, None, None],
            q.mT,
            do_scaled,
            k_rows_scaled.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_4 = torch.baddbmm(dv_3_c, k_rows_scaled_2_c, dS, beta=2, alpha=2)
        dv_5 = torch.bmm(inv_c, dv_4, out=dv_5_rows.room(n))
        S_dS = S_c * dS
        S_dS_sum = torch.sum(S_dS, 1, out=S_dS_sum_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dk_6 = torch.bmm(dv_5, S_c_2, out=dk_6_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), q_c, do_scaled_c, rsqrt_K)
        dS_before = scan.addmm(dS_before, k_rows_scaled_c, dv_5, -1)
        S_dS_sum_rows.put(S_dS_sum)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dv_5_rows.put(dv_5)
        dk_6_rows.put(dk_6)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    S_dS_sum = S_dS_sum_rows.joined()
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dv_5 = dv_5_rows.joined()
    dk_6 = dk_6_rows.joined()
    del S_dS_sum_rows
    del do_S_rows
    del U_dS_rows
    del dv_5_rows
    del dk_6_rows
    del do_scaled, dv_3, k_rows_scaled, k_rows_scaled_2
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C)
    del dlog2_G_C
    k_rows_U_dS = k_rows * U_dS
    k_rows_U_dS_sum = k_rows_U_dS.sum(3)
    del k_rows_U_dS
    dG_after_rows = k_rows_U_dS_sum * dG_after_rows_2 * 2
    dG_after_ = dG_after_rows.unflatten(2, (-1, n_))
    del dG_after_rows
    dG_after_2 = dG_after_.sum(3)
    del dG_after_
    dlog2_G_after = G_after * dG_after_2 * ln2
    del G_after, dG_after_2
    da_3 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dk_7 = tiles.product(G_after_rows_2, k_rows_U_dS_sum, dG_after_rows_1)
    del G_after_rows_2
    db_7 = tiles.product(db_1, k_rows_U_dS_sum, db_2)
    del k_rows_U_dS_sum
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    G_q_do_S_sum = G * q_do_S_sum * rsqrt_K
    dq_6 = dq_4 * rsqrt_K
    del dq_4
    dq_7 = torch.add(G_q_do_S_sum, dq_6, alpha=2)
    del G_q_do_S_sum, dq_6
    dq_8 = rnorm_q_cubed * dq_7
    del dq_7, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q_G_scaled[:, :, :, None] * do_S, dq_8[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dq_5, k_rows, 2)
    del do_S, dq_5, dq_8, rnorm_q_G_scaled
    dk_8 = dv_5 @ U.mT
    dk_9 = dk_8.tril(-1)
    del dk_8
    db_8 = k_rows_k_rows * dk_9
    da_4 = tiles.product(db_8, (rnorm_k_rows * -2)[:, :, :, None], P_2[:, :, None])
    del P_2
    dk_10 = db_8 * dk_2
    dk_11 = dk_10.sum(3)
    del dk_10
    db_9 = tiles.product_(db_8, P_3)
    del db_8
    db_10 = db_9.sum(2)
    del db_9
    da_5 = da_4.unflatten(3, (-1, n_))
    del da_4
    da_6 = da_5.sum(4)
    del da_5
    da_7 = da_6.unflatten(2, (-1, n_))
    del da_6
    da_8 = da_2 + da_7.permute(0, 1, 2, 4, 3)
    del da_2, da_7
    da_9 = da_8.sum(4)
    del da_8
    da_10 = tiles.product(G_ij, da_9, ln2)
    del G_ij, da_9
    da_11 = tiles.segment_sum_grad(da_10)
    del da_10
    dk_12 = tiles.product_(dk_2, dk_9)
    del dk_2
    dk_13 = tiles.product_(P_3, dk_9)
    del P_3, dk_9
    db_11 = tiles.addcmul_(db_3 * 2 * db_6, db_10, db_3, -2)
    del db_3
    db_12 = tiles.product(sigmoid_b_rows, db_1, db_11)
    del db_1, db_11, sigmoid_b_rows
    dv = dv_5.unflatten(2, (-1, n_))
    del dv_5
    dk_14 = torch.add(-2 * dk_11, dk_7, alpha=2)
    del dk_11, dk_7
    db_13 = torch.add(db_12, db_7, alpha=2)
    del db_12, db_7
    db = db_13.unflatten(2, (-1, n_))
    del db_13
    dk_15 = k_rows * dk_6
    dk_16 = dk_15.sum(3)
    del dk_15
    dk_17 = tiles.addcmul_(dG_after_rows_1 * 2 * db_6, G_rows_2, dk_16, -1)
    dk_17 = tiles.addcmul_(dk_17, db_10, dG_after_rows_1, -2)
    del G_rows_2, dG_after_rows_1, db_10, db_6
    dk_18 = tiles.addcmul_(dk_14 * -1 * rnorm_k_rows_cubed, dk_17, rnorm_k_rows_cubed, -1)
    del dk_14, dk_17, rnorm_k_rows_cubed
    da_12 = rnorm_k_rows * dk_16 * -1
    del dk_16
    da_13 = da_12.unflatten(2, (-1, n_))
    del da_12
    da_14 = da_13.sum(3)
    del da_13
    da_15 = torch.addcmul(da_14, q_do_S_sum, rnorm_q_scaled)
    del da_14, q_do_S_sum, rnorm_q_scaled
    da_16 = G * da_15 * ln2
    del G, da_15
    da_17 = tiles.suffix_sum(da_16, 2)
    del da_16
    da_18 = dlog2_G_C_2 + da_3 + da_11 + da_17
    del da_11, da_17, da_3, dlog2_G_C_2
    da_19 = valid * da_18
    del da_18
    da_20 = da_1 * da_19
    del da_1
    da = (exp_A_log_scaled * -1)[:, :, None] * da_20
    dA_log_1 = log2_D_2 * da_19
    del da_19, log2_D_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    dA_log = dA_log_2 * exp_A_log_scaled * -1
    del dA_log_2
    ddt_bias_1 = da_20.sum(2)
    del da_20
    ddt_bias = ddt_bias_1 * exp_A_log_scaled * -1
    del ddt_bias_1, exp_A_log_scaled
    dk_19 = tiles.scale_(dk_12, rnorm_k_rows[:, :, :, None])
    del dk_12, rnorm_k_rows
    dk_20 = torch.addcmul(-2 * dk_19.permute(0, 1, 3, 2), dG_after_rows_2[:, :, None], dk_13, value=-2)
    del dG_after_rows_2, dk_13, dk_19
    dk_21 = tiles.addcmul_(dk_18[:, :, :, None] * k_rows, dk_3[:, :, :, None], dk_5, 2)
    dk_21 = tiles.addcmul_(dk_21, db_2[:, :, :, None], U_dS, 2)
    dk_21 = tiles.addcmul_(dk_21, U_1[:, :, :, None], dk_6, -1)
    dk_21 = tiles.addmm_(dk_21, dk_20.mT, k_rows)
    del U_1, U_dS, db_2, dk_18, dk_20, dk_3, dk_5, dk_6, k_rows
    dk = dk_21.unflatten(2, (-1, n_))
    del dk_21
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
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    sigmoid_b_rnorm_k = sigmoid_b * rnorm_k
    sigmoid_b_rnorm_k_2 = sigmoid_b * rnorm_k
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
    k_scaled = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    del sigmoid_b_rnorm_k_2
    P = tiles.product(kk, (rnorm_k * -2)[:, :, :, None], sigmoid_b_rnorm_k[:, :, None])
    del sigmoid_b_rnorm_k
    inv = tiles.inverse(P)
    del P
    k_scaled_2 = rnorm_k[:, :, :, None] * k
    del rnorm_k
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        k_scaled_2_c,
        v_c,
        alpha_c,
        inv_c,
        k_scaled_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled_2,
            v,
            alpha[:, :, None, None],
            inv,
            k_scaled.mT,
            q_,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        k_scaled_S = torch.bmm(k_scaled_2_c, S)
        U_1 = torch.addcmul(v_c, alpha_c, k_scaled_S, value=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_c, U, 2)
        o = (q__c[..., None, :] @ S_new).squeeze(-2)
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
    del alpha, k_scaled, k_scaled_2, q_
    return (o,), (S_end,), (S, kk, inv, U) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    sigmoid_b_rnorm_k = sigmoid_b * rnorm_k
    sigmoid_b_rnorm_k_2 = sigmoid_b * rnorm_k
    del sigmoid_b
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    k_scaled = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    del sigmoid_b_rnorm_k_2
    P = tiles.product(kk, (rnorm_k * -2)[:, :, :, None], sigmoid_b_rnorm_k[:, :, None])
    del sigmoid_b_rnorm_k
    inv = tiles.inverse(P)
    del P
    k_scaled_2 = rnorm_k[:, :, :, None] * k
    del rnorm_k
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        k_scaled_2_c,
        v_c,
        alpha_c,
        inv_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled_2,
            v,
            alpha[:, :, None, None],
            inv,
            k_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        k_scaled_S = torch.bmm(k_scaled_2_c, S)
        U_1 = torch.addcmul(v_c, alpha_c, k_scaled_S, value=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
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
    del alpha, k_scaled, k_scaled_2
    return (), (S_end,), (S, kk, inv, U) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, kk, inv, U) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    sigmoid_b_2 = torch.sigmoid(b_)
    norm2_k_2 = tiles.sum_squares(k, 3)
    norm2_k_eps_2 = norm2_k_2 + 1e-06
    del norm2_k_2
    rnorm_k_2 = torch.rsqrt(norm2_k_eps_2)
    del norm2_k_eps_2
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -sigmoid_b + 1
    ddt_bias_1 = torch.sigmoid(alpha_1)
    del alpha_1
    k_scaled = rnorm_k_2[:, :, :, None] * k
    w_scale = sigmoid_b * rnorm_k
    rnorm_k_squared = rnorm_k * rnorm_k
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    db_2 = db_1 * w_scale
    del db_1
    sigmoid_b_rnorm_k = sigmoid_b_2 * rnorm_k_2
    sigmoid_b_rnorm_k_2 = sigmoid_b_2 * rnorm_k_2
    del sigmoid_b_2
    rnorm_q_scaled = rnorm_q * rsqrt_K
    alpha_3 = exp_A_log * alpha_2
    del alpha_2
    rnorm_q_squared = rnorm_q * rnorm_q
    del rnorm_q
    q_ = rnorm_q_scaled[:, :, None] * q
    alpha_4 = alpha_3 * -1
    alpha = torch.exp(alpha_4)
    del alpha_4
    k_scaled_2 = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    dk_scaled_U_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dq_scaled_1 = tiles.addmm_(alpha[:, :, None, None] * S, k_scaled_2.mT, U, 2)
    del k_scaled_2
    dq_scaled = (do[..., None, :] @ dq_scaled_1.mT).squeeze(-2)
    del dq_scaled_1
    q_dq_scaled = q * dq_scaled
    q_dq_scaled_sum = q_dq_scaled.sum(2)
    del q_dq_scaled
    inv_scaled = sigmoid_b_rnorm_k_2[:, :, :, None] * inv
    del sigmoid_b_rnorm_k_2
    dq_1 = rnorm_q_squared * q_dq_scaled_sum
    del q_dq_scaled_sum, rnorm_q_squared
    dq_2 = dq_1 * rnorm_q_scaled
    del dq_1
    dq = tiles.addcmul_(rnorm_q_scaled[:, :, None] * dq_scaled, dq_2[:, :, None], q, -1)
    del dq_2, dq_scaled, rnorm_q_scaled
    k_scaled_scaled = tiles.scale_(k_scaled, alpha[:, :, None, None])
    del k_scaled
    kS_rows = scan.Rows(steps, H, True)
    dS_before_1_rows = scan.Rows(steps, H, True)
    dk_scaled_U_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_1_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dk_scaled_U_1_c,
        k_c,
        inv_scaled_c,
        S_c,
        S_c_2,
        alpha_c,
        k_scaled_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            dk_scaled_U_1,
            k,
            inv_scaled.mT,
            S,
            S.mT,
            alpha[:, :, None, None],
            k_scaled_scaled.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_1 = dS + dk_scaled_U_1_c
        dk_scaled_U = torch.add(2 * dS, dk_scaled_U_1_c, alpha=2)
        k_dk_scaled_U = torch.bmm(k_c, dk_scaled_U)
        dv = torch.bmm(inv_scaled_c, k_dk_scaled_U, out=dv_rows.room(n))
        kS = torch.bmm(k_c, S_c, out=kS_rows.room(n))
        dk_1 = torch.bmm(dv, S_c_2, out=dk_1_rows.room(n))
        dS_before = scan.addmm(alpha_c * dS_before_1, k_scaled_scaled_c, dv, -1)
        kS_rows.put(kS)
        dS_before_1_rows.put(dS_before_1)
        dk_scaled_U_rows.put(dk_scaled_U)
        dv_rows.put(dv)
        dk_1_rows.put(dk_1)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    kS = kS_rows.joined()
    dS_before_1 = dS_before_1_rows.joined()
    dk_scaled_U = dk_scaled_U_rows.joined()
    dv = dv_rows.joined()
    dk_1 = dk_1_rows.joined()
    del kS_rows
    del dS_before_1_rows
    del dk_scaled_U_rows
    del dv_rows
    del dk_1_rows
    del dk_scaled_U_1, inv_scaled, k_scaled_scaled
    kS_scaled = rnorm_k_2[:, :, :, None] * kS
    ddt_bias_2 = S * dS_before_1
    del dS_before_1
    ddt_bias_3 = ddt_bias_2.sum(2)
    del ddt_bias_2
    ddt_bias_4 = ddt_bias_3.sum(2)
    del ddt_bias_3
    dk_scaled = U @ dk_scaled_U.mT
    del dk_scaled_U
    dkk_scaled_1 = dv @ U.mT
    dkk_scaled = dkk_scaled_1.tril(-1)
    del dkk_scaled_1
    ddt_bias_5 = tiles.product_(kS_scaled, dv)
    del kS_scaled
    ddt_bias_6 = ddt_bias_5.sum(2)
    del ddt_bias_5
    ddt_bias_7 = ddt_bias_6.sum(2)
    del ddt_bias_6
    kk_dkk_scaled = kk * dkk_scaled
    dk_2 = sigmoid_b_rnorm_k[:, :, None] * kk_dkk_scaled
    dk_3 = dk_2.sum(3)
    del dk_2
    db_3 = tiles.scale_(kk_dkk_scaled, rnorm_k_2[:, :, :, None])
    del kk_dkk_scaled
    db_4 = db_3.sum(2)
    del db_3
    dkk_scaled_scaled = sigmoid_b_rnorm_k[:, :, None] * dkk_scaled
    del sigmoid_b_rnorm_k
    dk_4 = dkk_scaled_scaled @ k
    del dkk_scaled_scaled
    dkk_scaled_scaled_2 = rnorm_k_2[:, :, :, None] * dkk_scaled
    del dkk_scaled, rnorm_k_2
    dk_5 = dkk_scaled_scaled_2.mT @ k
    del dkk_scaled_scaled_2
    dk_6 = kS * dv
    del kS
    dk_7 = dk_6.sum(3)
    del dk_6
    dk_8 = tiles.addcmul_(alpha[:, :, None] * -1 * dk_7, sigmoid_b, db_4, -2)
    del dk_7
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dk_9 = tiles.addcmul_(-2 * dk_3, sigmoid_b, k_dk_scaled_sum)
    del dk_3, sigmoid_b
    dk_10 = tiles.product(dk_1, alpha[:, :, None, None], rnorm_k[:, :, :, None])
    del dk_1
    ddt_bias_8 = ddt_bias_4 - ddt_bias_7
    del ddt_bias_4, ddt_bias_7
    ddt_bias_9 = alpha * ddt_bias_8
    del alpha, ddt_bias_8
    ddt_bias = tiles.product(exp_A_log, ddt_bias_1, ddt_bias_9, -1)
    del ddt_bias_1, exp_A_log
    dA_log = alpha_3 * ddt_bias_9 * -1
    del alpha_3, ddt_bias_9
    db = tiles.addcmul_(k_dk_scaled_sum * db_2, db_4, db_2, -2)
    del db_2, db_4, k_dk_scaled_sum
    dk_11 = tiles.addcmul_(dk_8 * -1 * rnorm_k_cubed, dk_9, rnorm_k_cubed, -1)
    del dk_8, dk_9, rnorm_k_cubed
    dk = tiles.addcmul_(-dk_10, w_scale[:, :, :, None], dk_scaled)
    dk = tiles.addcmul_(dk, dk_11[:, :, :, None], k)
    dk = tiles.addcmul_(dk, w_scale[:, :, :, None], dk_5, -2)
    dk = tiles.addcmul_(dk, rnorm_k[:, :, :, None], dk_4, -2)
    del dk_10, dk_11, dk_4, dk_5, dk_scaled, rnorm_k, w_scale
    return (dq, dk, dv, ddt_bias, db, dA_log, ddt_bias), (dS_end,)


recurrent_backward.unread = (2,)
