"""kimi_delta_product: generated from its spec by rnnc; do not edit.

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

NAME = "kimi_delta_product"
SPEC_HASH = "0c31f253dbf8d0b0c84a2a0fe6825625768570503cdbdced46bf2a85094d5923"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("a", ("K",)), ("b", ("n",)))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
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
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None, None], -1)
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
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    G_2 = G[:, :, :, None].expand(-1, -1, -1, n_, -1)
    G_rows_2 = G_2.flatten(2, 3)
    del G_2
    k_rows_G_rows = k_rows * G_rows_2
    del G_rows_2
    qG = q * G
    del G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    G_after_2 = G_after[:, :, :, None].expand(-1, -1, -1, n_, -1)
    del G_after
    G_after_rows_2 = G_after_2.flatten(2, 3)
    del G_after_2
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    S_new_1 = k_rows * G_after_rows_2
    del G_after_rows_2
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    q_scaled = q * rsqrt_K
    k_rows_scaled = rnorm_k_rows[:, :, :, None] * k_rows
    k_rows_scaled_2 = P_2[:, :, :, None] * k_rows
    del k_rows
    rnorm_q_scaled = rnorm_q * rsqrt_K
    P_3 = k_rows_scaled_2 * 2
    del k_rows_scaled_2
    P_4 = k_rows_scaled * -1
    del k_rows_scaled
    q_ = tiles.scale_(q_scaled, rnorm_q[:, :, :, None])
    del q_scaled, rnorm_q
    S_new_2 = tiles.scale_(S_new_1, P_2[:, :, :, None])
    del P_2, S_new_1
    f1 = tiles.decay_factors(log2_D)
    P = tiles.decay_dot(P_4, P_3, f1, strict=True)
    del P_4
    A = tiles.decay_dot(q_, P_3, f1)
    del P_3, f1, log2_D, q_
    inv = tiles.inverse(P)
    del P
    U_1 = tiles.scale_(k_rows_G_rows, rnorm_k_rows[:, :, :, None])
    del k_rows_G_rows, rnorm_k_rows
    qG_scaled = tiles.scale_(qG, rnorm_q_scaled[:, :, :, None])
    del qG, rnorm_q_scaled
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_rows_c,
        U_1_c,
        inv_c,
        qG_scaled_c,
        A_c,
        G_C_c,
        S_new_2_c,
    ) in scan.each(
        steps,
        H,
        (
            v_rows,
            U_1,
            inv,
            qG_scaled,
            A,
            G_C[:, :, :, None],
            S_new_2.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_2 = torch.baddbmm(v_rows_c, U_1_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_2, out=U_rows.room(n))
        o = torch.bmm(qG_scaled_c, S, out=o_rows.room(n))
        o = scan.addmm(o, A_c, U)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, S_new_2_c, U, 2)
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
    del G_C, S_new_2, U_1, qG_scaled, v_rows
    return (o,), (S_end,), (S, A, inv, U) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    n_ = k.shape[3]
    K = q.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None, None], -1)
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
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    G_2 = G[:, :, :, None].expand(-1, -1, -1, n_, -1)
    del G
    G_rows_2 = G_2.flatten(2, 3)
    del G_2
    k_rows_G_rows = k_rows * G_rows_2
    del G_rows_2
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    G_after_2 = G_after[:, :, :, None].expand(-1, -1, -1, n_, -1)
    del G_after
    G_after_rows_2 = G_after_2.flatten(2, 3)
    del G_after_2
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    S_new_1 = k_rows * G_after_rows_2
    del G_after_rows_2
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    q_scaled = q * rsqrt_K
    k_rows_scaled = rnorm_k_rows[:, :, :, None] * k_rows
    k_rows_scaled_2 = P_2[:, :, :, None] * k_rows
    del k_rows
    P_3 = k_rows_scaled_2 * 2
    del k_rows_scaled_2
    P_4 = k_rows_scaled * -1
    del k_rows_scaled
    q_ = tiles.scale_(q_scaled, rnorm_q[:, :, :, None])
    del q_scaled, rnorm_q
    S_new_2 = tiles.scale_(S_new_1, P_2[:, :, :, None])
    del P_2, S_new_1
    f1 = tiles.decay_factors(log2_D)
    P = tiles.decay_dot(P_4, P_3, f1, strict=True)
    del P_4
    A = tiles.decay_dot(q_, P_3, f1)
    del P_3, f1, log2_D, q_
    inv = tiles.inverse(P)
    del P
    U_1 = tiles.scale_(k_rows_G_rows, rnorm_k_rows[:, :, :, None])
    del k_rows_G_rows, rnorm_k_rows
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_rows_c,
        U_1_c,
        inv_c,
        G_C_c,
        S_new_2_c,
    ) in scan.each(
        steps,
        H,
        (
            v_rows,
            U_1,
            inv,
            G_C[:, :, :, None],
            S_new_2.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_2 = torch.baddbmm(v_rows_c, U_1_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_2, out=U_rows.room(n))
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, S_new_2_c, U, 2)
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
    del G_C, S_new_2, U_1, v_rows
    return (), (S_end,), (S, A, inv, U) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, dU_1, inv, U) = kept
    (do,) = douts
    n_ = k.shape[3]
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    log2_D_3 = (exp_A_log * -1)[:, :, None, None] * log2_D_2
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
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_4, 0)
    del log2_D_4
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    G_2 = G[:, :, :, None].expand(-1, -1, -1, n_, -1)
    G_rows_2 = G_2.flatten(2, 3)
    del G_2
    k_rows_G_rows = k_rows * G_rows_2
    qG = q * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    G_after_2 = G_after[:, :, :, None].expand(-1, -1, -1, n_, -1)
    G_after_rows_2 = G_after_2.flatten(2, 3)
    del G_after_2
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    db_1 = k_rows * G_after_rows_2
    ln2 = tiles.LN2
    do_scaled = rnorm_q[:, :, :, None] * do
    log2e = tiles.LOG2E
    db_2 = -sigmoid_b_rows + 1
    da_1 = tiles.apply_(torch.sigmoid_, log2_D_1)
    del log2_D_1
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    dk_1 = rnorm_k_rows * rnorm_k_rows
    rnorm_k_rows_cubed = rnorm_k_rows * dk_1
    del dk_1
    db_3 = db_2 * P_2
    del db_2
    exp_A_log_scaled = exp_A_log * log2e
    del exp_A_log
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    q_scaled = q * rsqrt_K
    k_rows_scaled = rnorm_k_rows[:, :, :, None] * k_rows
    k_rows_scaled_2 = P_2[:, :, :, None] * k_rows
    rnorm_q_scaled = rnorm_q * rsqrt_K
    P_3 = k_rows_scaled_2 * 2
    P_4 = k_rows_scaled * -1
    q_ = rnorm_q[:, :, :, None] * q_scaled
    dS_before_1 = rnorm_k_rows[:, :, :, None] * k_rows_G_rows
    dU = dU_1.mT @ do
    do_U = do @ U.mT
    f1 = tiles.decay_factors(log2_D)
    dq_scaled, dk_2, da_2 = tiles.decay_dot_grads(do_U, q_, P_3, f1)
    del do_U, log2_D, q_
    q_dq_scaled = q * dq_scaled
    q_dq_scaled_sum = q_dq_scaled.sum(3)
    del q_dq_scaled
    dv_1 = P_2[:, :, :, None] * db_1
    dG_C_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dv_3_rows = scan.Rows(steps, H, True)
    dk_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dv_1_c,
        dU_c,
        inv_c,
        S_c,
        U_c,
        do_c,
        S_c_2,
        G_C_c,
        qG_c,
        do_scaled_c,
        dS_before_1_c,
    ) in scan.each(
        steps,
        H,
        (
            dv_1,
            dU,
            inv.mT,
            S,
            U,
            do,
            S.mT,
            G_C[:, :, :, None],
            qG.mT,
            do_scaled,
            dS_before_1.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_2 = torch.baddbmm(dU_c, dv_1_c, dS, alpha=2)
        dv_3 = torch.bmm(inv_c, dv_2, out=dv_3_rows.room(n))
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 2, out=dG_C_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dk_3 = torch.bmm(dv_3, S_c_2, out=dk_3_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), qG_c, do_scaled_c, rsqrt_K)
        dS_before = scan.addmm(dS_before, dS_before_1_c, dv_3, -1)
        dG_C_rows.put(dG_C)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dv_3_rows.put(dv_3)
        dk_3_rows.put(dk_3)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dG_C = dG_C_rows.joined()
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dv_3 = dv_3_rows.joined()
    dk_3 = dk_3_rows.joined()
    del dG_C_rows
    del do_S_rows
    del U_dS_rows
    del dv_3_rows
    del dk_3_rows
    del dS_before_1, dU, do_scaled, dv_1
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    do_S_scaled = rnorm_q[:, :, :, None] * do_S
    del rnorm_q
    G_do_S_scaled = tiles.product(G, do_S_scaled, rsqrt_K)
    dG_after_rows = tiles.product_(k_rows_scaled_2, U_dS, 2)
    del k_rows_scaled_2
    db_4 = tiles.product_(db_1, U_dS)
    del db_1
    db_5 = db_4.sum(3)
    del db_4
    dG_after_ = dG_after_rows.unflatten(2, (-1, n_))
    del dG_after_rows
    dG_after_2 = dG_after_.sum(3)
    del dG_after_
    dlog2_G_after = tiles.product(G_after, dG_after_2, ln2)
    del G_after, dG_after_2
    da_3 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dq_1 = q_dq_scaled_sum * rsqrt_K
    del q_dq_scaled_sum
    dk_4 = tiles.product(G_after_rows_2, U_dS, P_2[:, :, :, None])
    del G_after_rows_2, U_dS
    qG_do_S = tiles.product_(qG, do_S)
    del do_S, qG
    qG_do_S_sum = qG_do_S.sum(3)
    del qG_do_S
    qG_do_S_sum_scaled = qG_do_S_sum * rsqrt_K
    del qG_do_S_sum
    dq_2 = qG_do_S_sum_scaled + dq_1
    del dq_1, qG_do_S_sum_scaled
    dq_3 = rnorm_q_cubed * dq_2
    del dq_2, rnorm_q_cubed
    dq = torch.addcmul(G_do_S_scaled, rnorm_q_scaled[:, :, :, None], dq_scaled)
    dq = tiles.addcmul_(dq, dq_3[:, :, :, None], q, -1)
    del G_do_S_scaled, dq_3, dq_scaled, rnorm_q_scaled
    dk_5 = dv_3 @ U.mT
    dk_6 = dk_5.tril(-1)
    del dk_5
    dk_7, dk_8, da_4 = tiles.decay_dot_grads(dk_6, P_4, P_3, f1, strict=True)
    del P_3, P_4, dk_6, f1
    da_5 = tiles.product_(k_rows_scaled, dk_3, -1)
    del k_rows_scaled
    da_6 = da_5.unflatten(2, (-1, n_))
    del da_5
    da_7 = da_6.sum(3)
    del da_6
    da_8 = torch.addcmul(da_7, q_scaled, do_S_scaled)
    del da_7, do_S_scaled, q_scaled
    da_9 = tiles.product_(da_8, G, ln2)
    del G, da_8
    da_10 = tiles.suffix_sum(da_9, 2)
    del da_9
    da_11 = dlog2_G_C_2 + da_3 + da_2 + da_4 + da_10
    del da_10, da_2, da_3, da_4, dlog2_G_C_2
    dk_9 = dk_2 + dk_8
    del dk_2, dk_8
    db_6 = k_rows * dk_9
    db_7 = db_6.sum(3)
    del db_6
    dk_10 = k_rows * dk_7
    dk_11 = dk_10.sum(3)
    del dk_10
    dv = dv_3.unflatten(2, (-1, n_))
    del dv_3
    dk_12 = tiles.addcmul_(-dk_11, db_5, P_1, 2)
    del dk_11
    db_8 = tiles.addcmul_(db_7 * 2 * db_3, db_5, db_3, 2)
    del db_3, db_5
    db = db_8.unflatten(2, (-1, n_))
    del db_8
    dk_13 = tiles.product(G_rows_2, dk_3, rnorm_k_rows[:, :, :, None])
    del G_rows_2
    dA_log_1 = tiles.product_(log2_D_2, valid[:, :, :, None], da_11)
    del log2_D_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    dA_log_3 = dA_log_2.sum(2)
    del dA_log_2
    da_12 = tiles.product_(da_1, da_11)
    del da_1, da_11
    da_13 = tiles.scale_(da_12, valid[:, :, :, None])
    del da_12
    da = (exp_A_log_scaled * -1)[:, :, None, None] * da_13
    ddt_bias_1 = da_13.sum(2)
    del da_13
    ddt_bias = (exp_A_log_scaled * -1)[:, :, None] * ddt_bias_1
    del ddt_bias_1
    dA_log = dA_log_3 * exp_A_log_scaled * -1
    del dA_log_3, exp_A_log_scaled
    dk_14 = tiles.product_(k_rows_G_rows, dk_3)
    del dk_3, k_rows_G_rows
    dk_15 = dk_14.sum(3)
    del dk_14
    dk_16 = tiles.addcmul_(-dk_15, db_7, P_1, 2)
    del P_1, db_7, dk_15
    dk_17 = tiles.addcmul_(dk_12 * -1 * rnorm_k_rows_cubed, dk_16, rnorm_k_rows_cubed, -1)
    del dk_12, dk_16, rnorm_k_rows_cubed
    dk_18 = tiles.addcmul_(2 * dk_4 - dk_13, dk_17[:, :, :, None], k_rows)
    dk_18 = tiles.addcmul_(dk_18, P_2[:, :, :, None], dk_9, 2)
    dk_18 = tiles.addcmul_(dk_18, rnorm_k_rows[:, :, :, None], dk_7, -1)
    del P_2, dk_13, dk_17, dk_4, dk_7, dk_9, k_rows, rnorm_k_rows
    dk = dk_18.unflatten(2, (-1, n_))
    del dk_18
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
    alpha_3 = tiles.scale_(alpha_2, exp_A_log[:, :, None], -1)
    del alpha_2, exp_A_log
    alpha = torch.exp(alpha_3)
    del alpha_3
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    k_scaled = alpha[:, :, None] * k
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
    q_ = rnorm_q_scaled[:, :, None] * q
    del rnorm_q_scaled
    k_scaled_2 = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    del sigmoid_b_rnorm_k_2
    P = tiles.product(kk, (rnorm_k * -2)[:, :, :, None], sigmoid_b_rnorm_k[:, :, None])
    del sigmoid_b_rnorm_k
    inv = tiles.inverse(P)
    del P
    k_scaled_scaled = tiles.scale_(k_scaled, rnorm_k[:, :, :, None])
    del k_scaled, rnorm_k
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        k_scaled_scaled_c,
        inv_c,
        alpha_c,
        k_scaled_2_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_scaled,
            inv,
            alpha[:, :, :, None],
            k_scaled_2.mT,
            q_,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, k_scaled_scaled_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_2_c, U, 2)
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
    del alpha, k_scaled_2, k_scaled_scaled, q_
    return (o,), (S_end,), (S, kk, inv, U) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    alpha_3 = tiles.scale_(alpha_2, exp_A_log[:, :, None], -1)
    del alpha_2, exp_A_log
    alpha = torch.exp(alpha_3)
    del alpha_3
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    k_scaled = alpha[:, :, None] * k
    kk = k @ k.mT
    sigmoid_b_rnorm_k = sigmoid_b * rnorm_k
    sigmoid_b_rnorm_k_2 = sigmoid_b * rnorm_k
    del sigmoid_b
    k_scaled_2 = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    del sigmoid_b_rnorm_k_2
    P = tiles.product(kk, (rnorm_k * -2)[:, :, :, None], sigmoid_b_rnorm_k[:, :, None])
    del sigmoid_b_rnorm_k
    inv = tiles.inverse(P)
    del P
    k_scaled_scaled = tiles.scale_(k_scaled, rnorm_k[:, :, :, None])
    del k_scaled, rnorm_k
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        k_scaled_scaled_c,
        inv_c,
        alpha_c,
        k_scaled_2_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_scaled,
            inv,
            alpha[:, :, :, None],
            k_scaled_2.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, k_scaled_scaled_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_scaled_2_c, U, 2)
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
    del alpha, k_scaled_2, k_scaled_scaled
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
    alpha_3 = (exp_A_log * -1)[:, :, None] * alpha_2
    alpha = torch.exp(alpha_3)
    del alpha_3
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
    k_scaled = alpha[:, :, None] * k
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -sigmoid_b + 1
    ddt_bias_1 = torch.sigmoid(alpha_1)
    del alpha_1
    k_scaled_2 = rnorm_k_2[:, :, :, None] * k
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
    rnorm_q_squared = rnorm_q * rnorm_q
    del rnorm_q
    q_ = rnorm_q_scaled[:, :, None] * q
    k_scaled_3 = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    dk_scaled_U_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dq_scaled_1 = tiles.addmm_(alpha[:, :, :, None] * S, k_scaled_3.mT, U, 2)
    del k_scaled_3
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
    k_scaled_scaled = alpha[:, :, None] * k_scaled_2
    k_scaled_S_rows = scan.Rows(steps, H, True)
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
        k_scaled_c,
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
            k_scaled,
            S,
            S.mT,
            alpha[:, :, :, None],
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
        k_scaled_S = torch.bmm(k_scaled_c, S_c, out=k_scaled_S_rows.room(n))
        dk_1 = torch.bmm(dv, S_c_2, out=dk_1_rows.room(n))
        dS_before = scan.addmm(alpha_c * dS_before_1, k_scaled_scaled_c, dv, -1)
        k_scaled_S_rows.put(k_scaled_S)
        dS_before_1_rows.put(dS_before_1)
        dk_scaled_U_rows.put(dk_scaled_U)
        dv_rows.put(dv)
        dk_1_rows.put(dk_1)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    k_scaled_S = k_scaled_S_rows.joined()
    dS_before_1 = dS_before_1_rows.joined()
    dk_scaled_U = dk_scaled_U_rows.joined()
    dv = dv_rows.joined()
    dk_1 = dk_1_rows.joined()
    del k_scaled_S_rows
    del dS_before_1_rows
    del dk_scaled_U_rows
    del dv_rows
    del dk_1_rows
    del dk_scaled_U_1, inv_scaled, k_scaled, k_scaled_scaled
    dalpha_1 = S * dS_before_1
    del dS_before_1
    dalpha_2 = dalpha_1.sum(3)
    del dalpha_1
    dk_scaled = U @ dk_scaled_U.mT
    del dk_scaled_U
    dkk_scaled_1 = dv @ U.mT
    dkk_scaled = dkk_scaled_1.tril(-1)
    del dkk_scaled_1
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
    dk_6 = k_scaled_S * dv
    del k_scaled_S
    dk_7 = dk_6.sum(3)
    del dk_6
    dk_8 = tiles.addcmul_(-dk_7, sigmoid_b, db_4, -2)
    del dk_7
    dalpha_3 = tiles.product_(k_scaled_2, dk_1)
    del k_scaled_2
    dalpha_4 = dalpha_3.sum(2)
    del dalpha_3
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dk_9 = tiles.addcmul_(-2 * dk_3, sigmoid_b, k_dk_scaled_sum)
    del dk_3, sigmoid_b
    dk_10 = tiles.product(dk_1, alpha[:, :, None], rnorm_k[:, :, :, None])
    del dk_1
    dalpha = dalpha_2 - dalpha_4
    del dalpha_2, dalpha_4
    alpha_dalpha = alpha * dalpha
    del alpha, dalpha
    dA_log_1 = alpha_2 * alpha_dalpha
    del alpha_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    ddt_bias = tiles.product(ddt_bias_1, alpha_dalpha, (exp_A_log * -1)[:, :, None])
    del alpha_dalpha, ddt_bias_1
    dA_log = exp_A_log * dA_log_2 * -1
    del dA_log_2, exp_A_log
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
