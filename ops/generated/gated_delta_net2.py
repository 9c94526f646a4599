"""gated_delta_net2: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + u @ (write * v - S[t-1].T @ (alpha * erase * u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  erase = sigmoid(b)
  write = sigmoid(w)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w_ = u,  v_ = write * v,  f = D f',  f' = -erase * u
  q_ = K**-0.5 * unit(q)
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f'[i]^T (G[i]/G[j]) w_[j],  j < i
  U = (I - P)^-1 (v_ + (f' * G) S_in)
  A[i,j] = q_[i]^T (G[i]/G[j]) w_[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w_ * G[C]/G)^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "gated_delta_net2"
SPEC_HASH = "5d344734104feb2d9e1c2e6a0332131731d6b7a2c31be3db6f2a0d57f5111e19"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)), ("w", ("V",)))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None, None], -1)
    del exp_A_log, log2_D_2
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    write = tiles.apply_(torch.sigmoid_, w)
    erase = tiles.apply_(torch.sigmoid_, b_)
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
    qG = q * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_G_after = tiles.product_(G_after, k)
    del G_after
    k_erase = tiles.product_(erase, k)
    del erase
    G_k_erase = tiles.product_(G, k_erase)
    del G
    valid_rnorm_k = valid * rnorm_k
    q_scaled = q * rsqrt_K
    k_erase_scaled = tiles.scale_(k_erase, rnorm_k[:, :, :, None])
    del k_erase
    rnorm_q_scaled = rnorm_q * rsqrt_K
    u = tiles.scale_(k, valid_rnorm_k[:, :, :, None])
    f = k_erase_scaled * -1
    del k_erase_scaled
    q_ = tiles.scale_(q_scaled, rnorm_q[:, :, :, None])
    del q_scaled, rnorm_q
    k_G_after_scaled = tiles.scale_(k_G_after, valid_rnorm_k[:, :, :, None])
    del k_G_after, valid_rnorm_k
    f1 = tiles.decay_factors(log2_D)
    P = tiles.decay_dot(f, u, f1, strict=True)
    del f
    A = tiles.decay_dot(q_, u, f1)
    del f1, log2_D, q_, u
    inv = tiles.inverse(P)
    del P
    G_k_erase_scaled = tiles.scale_(G_k_erase, rnorm_k[:, :, :, None])
    del G_k_erase, rnorm_k
    qG_scaled = tiles.scale_(qG, rnorm_q_scaled[:, :, :, None])
    del qG, rnorm_q_scaled
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        write_c,
        G_k_erase_scaled_c,
        inv_c,
        qG_scaled_c,
        A_c,
        G_C_c,
        k_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            write,
            G_k_erase_scaled,
            inv,
            qG_scaled,
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
        U_1 = scan.addmm(v_c * write_c, G_k_erase_scaled_c, S, -1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = torch.bmm(qG_scaled_c, S, out=o_rows.room(n))
        o = scan.addmm(o, A_c, U)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, U)
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
    del G_C, G_k_erase_scaled, k_G_after_scaled, qG_scaled, write
    return (o,), (S_end,), (S, A, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    del log2_D_1
    log2_D_3 = tiles.scale_(log2_D_2, exp_A_log[:, :, None, None], -1)
    del exp_A_log, log2_D_2
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    write = torch.sigmoid(w)
    erase = torch.sigmoid(b_)
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
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_G_after = tiles.product_(G_after, k)
    del G_after
    k_erase = tiles.product_(erase, k)
    del erase
    G_k_erase = tiles.product_(G, k_erase)
    del G
    valid_rnorm_k = valid * rnorm_k
    q_scaled = q * rsqrt_K
    k_erase_scaled = tiles.scale_(k_erase, rnorm_k[:, :, :, None])
    del k_erase
    u = valid_rnorm_k[:, :, :, None] * k
    f = k_erase_scaled * -1
    del k_erase_scaled
    q_ = tiles.scale_(q_scaled, rnorm_q[:, :, :, None])
    del q_scaled, rnorm_q
    k_G_after_scaled = tiles.scale_(k_G_after, valid_rnorm_k[:, :, :, None])
    del k_G_after, valid_rnorm_k
    f1 = tiles.decay_factors(log2_D)
    P = tiles.decay_dot(f, u, f1, strict=True)
    del f
    A = tiles.decay_dot(q_, u, f1)
    del f1, log2_D, q_, u
    inv = tiles.inverse(P)
    del P
    G_k_erase_scaled = tiles.scale_(G_k_erase, rnorm_k[:, :, :, None])
    del G_k_erase, rnorm_k
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        write_c,
        G_k_erase_scaled_c,
        inv_c,
        G_C_c,
        k_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            write,
            G_k_erase_scaled,
            inv,
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = scan.addmm(v_c * write_c, G_k_erase_scaled_c, S, -1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, U)
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
    del G_C, G_k_erase_scaled, k_G_after_scaled, write
    return (), (S_end,), (S, A, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, qu, inv, U) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    log2_D_1 = a_ + dt_bias[:, :, None]
    log2_D_2 = tiles.softplus(log2_D_1)
    log2_D_3 = (exp_A_log * -1)[:, :, None, None] * log2_D_2
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    u = rnorm_k[:, :, :, None] * k
    write = tiles.apply_(torch.sigmoid_, w)
    v_write = tiles.product_(v, write)
    erase = tiles.apply_(torch.sigmoid_, b_)
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
    qG = q * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_G_after = k * G_after
    ln2 = tiles.LN2
    do_scaled = rnorm_q[:, :, :, None] * do
    log2e = tiles.LOG2E
    dw_1 = -write + 1
    db_1 = -erase + 1
    da_1 = tiles.apply_(torch.sigmoid_, log2_D_1)
    del log2_D_1
    k_erase = k * erase
    G_k_erase = G * k_erase
    valid_rnorm_k = valid * rnorm_k
    rnorm_k_squared = rnorm_k * rnorm_k
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    exp_A_log_scaled = exp_A_log * log2e
    del exp_A_log
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    q_scaled = q * rsqrt_K
    erase_scaled = rnorm_k[:, :, :, None] * erase
    k_erase_scaled = rnorm_k[:, :, :, None] * k_erase
    rnorm_q_scaled = rnorm_q * rsqrt_K
    u_ = valid_rnorm_k[:, :, :, None] * k
    f = k_erase_scaled * -1
    q_ = rnorm_q[:, :, :, None] * q_scaled
    G_k_erase_scaled = rnorm_k[:, :, :, None] * G_k_erase
    del rnorm_k
    dq_scaled_k_scaled = do @ U.mT
    f1 = tiles.decay_factors(log2_D)
    dq_scaled, dk_1, da_2 = tiles.decay_dot_grads(dq_scaled_k_scaled, q_, u_, f1)
    del dq_scaled_k_scaled, log2_D, q_
    q_dq_scaled = q * dq_scaled
    q_dq_scaled_sum = q_dq_scaled.sum(3)
    del q_dq_scaled
    k_G_after_scaled = valid_rnorm_k[:, :, :, None] * k_G_after
    dG_C_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dw_3_rows = scan.Rows(steps, H, True)
    dk_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        k_G_after_scaled_c,
        qu_c,
        do_c,
        inv_c,
        S_c,
        U_c,
        S_c_2,
        G_C_c,
        qG_c,
        do_scaled_c,
        G_k_erase_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k_G_after_scaled,
            qu.mT,
            do,
            inv.mT,
            S,
            U,
            S.mT,
            G_C[:, :, :, None],
            qG.mT,
            do_scaled,
            G_k_erase_scaled.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dw_2 = scan.addmm(torch.bmm(k_G_after_scaled_c, dS), qu_c, do_c)
        dw_3 = torch.bmm(inv_c, dw_2, out=dw_3_rows.room(n))
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 2, out=dG_C_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dk_2 = torch.bmm(dw_3, S_c_2, out=dk_2_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), qG_c, do_scaled_c, rsqrt_K)
        dS_before = scan.addmm(dS_before, G_k_erase_scaled_c, dw_3, -1)
        dG_C_rows.put(dG_C)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dw_3_rows.put(dw_3)
        dk_2_rows.put(dk_2)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dG_C = dG_C_rows.joined()
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dw_3 = dw_3_rows.joined()
    dk_2 = dk_2_rows.joined()
    del dG_C_rows
    del do_S_rows
    del U_dS_rows
    del dw_3_rows
    del dk_2_rows
    del G_k_erase_scaled, do_scaled, k_G_after_scaled
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    do_S_scaled = rnorm_q[:, :, :, None] * do_S
    del rnorm_q
    G_do_S_scaled = tiles.product(G, do_S_scaled, rsqrt_K)
    dk_3 = tiles.product_(G_after, U_dS, valid_rnorm_k[:, :, :, None])
    del G_after
    k_G_after_U_dS = tiles.product_(k_G_after, U_dS)
    del U_dS, k_G_after
    k_G_after_U_dS_sum = k_G_after_U_dS.sum(3)
    dlog2_G_after = tiles.scale_(k_G_after_U_dS, valid_rnorm_k[:, :, :, None], ln2)
    del k_G_after_U_dS
    da_3 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dq_1 = q_dq_scaled_sum * rsqrt_K
    del q_dq_scaled_sum
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
    dk_4 = dw_3 @ U.mT
    dk_5 = dk_4.tril(-1)
    del dk_4
    dk_6, dk_7, da_4 = tiles.decay_dot_grads(dk_5, f, u_, f1, strict=True)
    del dk_5, f, f1, u_
    da_5 = tiles.addcmul_(q_scaled * do_S_scaled, dk_2, k_erase_scaled, -1)
    del do_S_scaled, k_erase_scaled, q_scaled
    da_6 = tiles.product_(da_5, G, ln2)
    del da_5
    da_7 = tiles.suffix_sum(da_6, 2)
    del da_6
    da_8 = dlog2_G_C_2 + da_3 + da_2 + da_4 + da_7
    del da_2, da_3, da_4, da_7, dlog2_G_C_2
    dw = tiles.product_(v_write, dw_1, dw_3)
    del dw_1, v_write
    dv = tiles.product_(write, dw_3)
    del dw_3, write
    dk_8 = dk_1 + dk_7
    del dk_1, dk_7
    dk_9 = k * dk_8
    dk_10 = dk_9.sum(3)
    del dk_9
    dk_11 = tiles.product_(k_erase, dk_6)
    del k_erase
    dk_12 = dk_11.sum(3)
    del dk_11
    dk_13 = tiles.product_(G, dk_2)
    del G
    db_2 = tiles.addcmul_(dk_13 * -1 * u, dk_6, u, -1)
    del u
    db = tiles.product_(erase, db_1, db_2)
    del db_1, db_2, erase
    dk_14 = tiles.addcmul_(-dk_12, valid, k_G_after_U_dS_sum)
    del dk_12, k_G_after_U_dS_sum
    dA_log_1 = tiles.product_(log2_D_2, valid[:, :, :, None], da_8)
    del log2_D_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    dA_log_3 = dA_log_2.sum(2)
    del dA_log_2
    da_9 = tiles.product_(da_1, da_8)
    del da_1, da_8
    da_10 = tiles.scale_(da_9, valid[:, :, :, None])
    del da_9
    da = (exp_A_log_scaled * -1)[:, :, None, None] * da_10
    ddt_bias_1 = da_10.sum(2)
    del da_10
    ddt_bias = (exp_A_log_scaled * -1)[:, :, None] * ddt_bias_1
    del ddt_bias_1
    dA_log = dA_log_3 * exp_A_log_scaled * -1
    del dA_log_3, exp_A_log_scaled
    dk_15 = tiles.product_(G_k_erase, dk_2)
    del G_k_erase, dk_2
    dk_16 = dk_15.sum(3)
    del dk_15
    dk_17 = tiles.addcmul_(-dk_16, valid, dk_10)
    del dk_10, dk_16
    dk_18 = tiles.addcmul_(dk_14 * -1 * rnorm_k_cubed, dk_17, rnorm_k_cubed, -1)
    del dk_14, dk_17, rnorm_k_cubed
    dk = torch.addcmul(dk_3, valid_rnorm_k[:, :, :, None], dk_8)
    dk = tiles.addcmul_(dk, dk_18[:, :, :, None], k)
    dk = tiles.addcmul_(dk, dk_13, erase_scaled, -1)
    dk = tiles.addcmul_(dk, dk_6, erase_scaled, -1)
    del dk_13, dk_18, dk_3, dk_6, dk_8, erase_scaled, valid_rnorm_k
    return (dq, dk, dv, da, db, dw, dA_log, ddt_bias), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
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
    write = torch.sigmoid(w)
    v_write = v * write
    del write
    erase = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    k_erase = k * erase
    del erase
    alpha_k_erase = alpha * k_erase
    del k_erase
    rnorm_q_scaled = rnorm_q * rsqrt_K
    del rnorm_q
    q_ = rnorm_q_scaled[:, :, None] * q
    del rnorm_q_scaled
    f = tiles.scale_(alpha_k_erase, rnorm_k[:, :, None], -1)
    del alpha_k_erase
    u = rnorm_k[:, :, None] * k
    del rnorm_k
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        v_write_c,
        alpha_c,
        u_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            v_write,
            alpha[:, :, :, None],
            u[:, :, :, None],
            q_,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_write_c + fS
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, u_c, u_[:, None])
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
    del alpha, f, q_, u, v_write
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, w, A_log, dt_bias) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    alpha_3 = tiles.scale_(alpha_2, exp_A_log[:, :, None], -1)
    del alpha_2, exp_A_log
    alpha = torch.exp(alpha_3)
    del alpha_3
    write = torch.sigmoid(w)
    v_write = v * write
    del write
    erase = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    k_erase = k * erase
    del erase
    alpha_k_erase = alpha * k_erase
    del k_erase
    f = tiles.scale_(alpha_k_erase, rnorm_k[:, :, None], -1)
    del alpha_k_erase
    u = rnorm_k[:, :, None] * k
    del rnorm_k
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        v_write_c,
        alpha_c,
        u_c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            v_write,
            alpha[:, :, :, None],
            u[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_write_c + fS
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, u_c, u_[:, None])
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del alpha, f, u, v_write
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias
    alpha_2 = tiles.softplus(alpha_1)
    alpha_3 = (exp_A_log * -1)[:, :, None] * alpha_2
    alpha = torch.exp(alpha_3)
    del alpha_3
    write = torch.sigmoid(w)
    v_write = v * write
    erase = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -erase + 1
    dw_1 = -write + 1
    ddt_bias_1 = torch.sigmoid(alpha_1)
    del alpha_1
    k_erase = k * erase
    alpha_k_erase = alpha * k_erase
    rnorm_q_scaled = rnorm_q * rsqrt_K
    rnorm_k_squared = rnorm_k * rnorm_k
    q_ = rnorm_q_scaled[:, :, None] * q
    f = (rnorm_k * -1)[:, :, None] * alpha_k_erase
    fS = (f[..., None, :] @ S).squeeze(-2)
    del f
    u_ = v_write + fS
    del fS
    dq_scaled_1 = (rnorm_k[:, :, None] * k)[:, :, :, None] * u_[:, :, None]
    dq_scaled_2 = torch.addcmul(dq_scaled_1, alpha[:, :, :, None], S)
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
    dq = tiles.addcmul_(rnorm_q_scaled[:, :, None] * dq_scaled, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_scaled, rnorm_q_scaled
    dS_before_2 = rnorm_k_squared[:, :, None] * alpha_k_erase
    dS_before_3_rows = scan.Rows(steps, H, True)
    dv_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dS_before_1_c,
        k_c,
        alpha_c,
        dS_before_2_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            k,
            alpha[:, :, :, None],
            dS_before_2[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_3 = dS + dS_before_1_c
        dv_1 = k_c[:, :, None] * dS_before_3
        dv_2 = torch.sum(dv_1, 1, out=dv_2_rows.room(n))
        dS_before = tiles.addcmul_(alpha_c * dS_before_3, dS_before_2_c, dv_2[:, None], -1)
        dS_before_3_rows.put(dS_before_3)
        dv_2_rows.put(dv_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_3 = dS_before_3_rows.joined()
    dv_2 = dv_2_rows.joined()
    del dS_before_3_rows
    del dv_2_rows
    del dS_before_1, dS_before_2
    dk_1 = u_[:, :, None] * dS_before_3
    dk_2 = dk_1.sum(3)
    del dk_1
    drnorm_k_1 = u_ * dv_2
    del u_
    drnorm_k_2 = drnorm_k_1.sum(2)
    del drnorm_k_1
    dv_3 = rnorm_k[:, :, None] * dv_2
    del dv_2
    db_2 = (dv_3[..., None, :] @ S.mT).squeeze(-2)
    db_3 = db_2 * alpha_k_erase
    del alpha_k_erase
    drnorm_k_3 = db_3.sum(2)
    drnorm_k = drnorm_k_2 - drnorm_k_3
    del drnorm_k_2, drnorm_k_3
    dnorm2_k_eps = tiles.product(rnorm_k, drnorm_k, rnorm_k_squared, -0.5)
    del drnorm_k, rnorm_k_squared
    db = tiles.product(db_1, db_3, (rnorm_k * -1)[:, :, None])
    del db_1, db_3
    dv = write * dv_3
    del write
    dw = tiles.product(v_write, dw_1, dv_3)
    del dv_3, dw_1, v_write
    dalpha_1 = S * dS_before_3
    del dS_before_3
    dalpha_2 = dalpha_1.sum(3)
    del dalpha_1
    dalpha_3 = tiles.scale_(db_2, rnorm_k[:, :, None])
    del db_2
    dalpha = torch.addcmul(dalpha_2, k_erase, dalpha_3, value=-1)
    del dalpha_2, k_erase
    alpha_dalpha = alpha * dalpha
    del dalpha
    dA_log_1 = alpha_2 * alpha_dalpha
    del alpha_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    ddt_bias = tiles.product(alpha_dalpha, ddt_bias_1, (exp_A_log * -1)[:, :, None])
    del alpha_dalpha, ddt_bias_1
    dA_log = exp_A_log * dA_log_2 * -1
    del dA_log_2, exp_A_log
    dk_3 = tiles.product(alpha, erase, dalpha_3)
    del alpha, dalpha_3, erase
    dk = tiles.addcmul_(-dk_3, rnorm_k[:, :, None], dk_2)
    dk = tiles.addcmul_(dk, dnorm2_k_eps[:, :, None], k, 2)
    del dk_2, dk_3, dnorm2_k_eps, rnorm_k
    return (dq, dk, dv, ddt_bias, db, dw, dA_log, ddt_bias), (dS_end,)
