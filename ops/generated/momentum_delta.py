"""momentum_delta: generated from its spec by rnnc; do not edit.

M[t] = sigmoid(m) * M[t-1] + eta * u @ (v - alpha * (S[t-1].T @ u)).T
S[t] = beta * sigmoid(m) * M[t-1] + alpha * S[t-1] + beta * eta * u @ (v - alpha * (S[t-1].T @ u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = sigmoid(b)
  eta = sigmoid(e)
  u = unit(k)

In a chunk of C tokens with the incoming states M_in, S_in:
  D = [[sigmoid(m), 0], [beta * sigmoid(m), alpha]], of (M, S)
  w_M = eta * u,  w_S = beta * eta * u,  f_S = -alpha * u
  q_ = K**-0.5 * unit(q)
  X and Y go through the states, over which D, T and G are matrices
  T[i,j] = D[i] ... D[j+1],  T[j,j] = I;  G[i] = D[i] ... D[1],  G[0] = I
  P[i,j] = sum_XY T[i-1,j]_XY f_X[i]^T w_Y[j],  j < i
  U = (I - P)^-1 (v + sum_XY (G[i-1]_XY f_X) Y_in)
  A[i,j] = sum_Y T[i,j]_S,Y q_[i]^T w_Y[j],  j <= i
  r = A U + sum_Y (G[i]_S,Y q_) Y_in
  X_out = sum_Y G[C]_XY Y_in + (sum_Y T[C,j]_XY w_Y[j])^T U
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "momentum_delta"
SPEC_HASH = "e2d031ef8c1c13ef0c018473751bba0d85ddb6aa8a2615b37ba06c18a109ec2a"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("m", ()), ("b", ()), ("e", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()))
STATES = (("M", ("K", "V")), ("S", ("K", "V")))
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    sigmoid_m = torch.sigmoid(m)
    beta = torch.sigmoid(b_)
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias[:, :, None]
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    alpha_3 = tiles.scale_(alpha_2, exp_A_log[:, :, None], -1)
    del alpha_2, exp_A_log
    alpha = torch.exp(alpha_3)
    eta = torch.sigmoid(e)
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
    logsigmoid_m = F.logsigmoid(m)
    log2_D_1 = logsigmoid_m * tiles.LOG2E
    del logsigmoid_m
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    log2_D_3 = alpha_3 * tiles.LOG2E
    del alpha_3
    log2_D_2 = torch.where(valid > 0, log2_D_3, 0)
    del log2_D_3
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = torch.exp2(log2_G_before)
    del log2_G_before
    log2_G_before_ij = tiles.segment_sum(log2_D_2, exclusive=True, strict=True)
    G_before_ij = tiles.apply_(torch.exp2_, log2_G_before_ij)
    del log2_G_before_ij
    log2_G_before_2 = tiles.prefix_sum(log2_D_2, 2, exclusive=True)
    G_before_2 = torch.exp2(log2_G_before_2)
    del log2_G_before_2
    log2_G_before_ij_2 = tiles.segment_sum(log2_D, exclusive=True, strict=True)
    G_before_ij_2 = tiles.apply_(torch.exp2_, log2_G_before_ij_2)
    del log2_G_before_ij_2
    log2_G_ij = tiles.segment_sum(log2_D_2)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    log2_G = tiles.prefix_sum(log2_D_2, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_after_2 = tiles.suffix_sum(log2_D_2, 2, exclusive=True)
    G_after_2 = torch.exp2(log2_G_after_2)
    del log2_G_after_2
    log2_G_C_2 = log2_D_2.sum(2)
    del log2_D_2
    G_C_2 = torch.exp2(log2_G_C_2)
    del log2_G_C_2
    G_ij_scaled = rnorm_q[:, :, :, None] * G_ij
    valid_beta = valid * beta
    alpha_rnorm_k = alpha * rnorm_k
    del alpha
    valid_eta = valid * eta
    rnorm_k_valid_eta = rnorm_k * valid_eta
    del valid_eta
    valid_eta_2 = valid * eta
    S_new_1 = sigmoid_m * valid_beta
    rnorm_k_valid_eta_2 = rnorm_k * valid_eta_2
    del valid_eta_2
    valid_sigmoid_m = valid * sigmoid_m
    del sigmoid_m
    S_new_2 = G_before * S_new_1
    del G_before
    P_1 = beta * rnorm_k_valid_eta
    P_2 = beta * valid_sigmoid_m
    del beta, valid_sigmoid_m
    eta_valid_beta = eta * valid_beta
    del eta, valid_beta
    rnorm_q_G = rnorm_q * G
    del G
    U_1 = G_before_2 * alpha_rnorm_k
    del G_before_2
    M_new_1 = G_after * rnorm_k_valid_eta_2
    del G_after
    S_new_3 = rnorm_k * eta_valid_beta
    del eta_valid_beta, rnorm_k
    S_new_4 = G_after_2 * S_new_1
    del S_new_1
    S_new_5 = G_after_2 * S_new_2
    G_before_ij_scaled = alpha_rnorm_k[:, :, :, None] * G_before_ij
    rnorm_q_scaled = rnorm_q * rsqrt_K
    rnorm_q_G_scaled = rnorm_q_G * rsqrt_K
    del rnorm_q_G
    k_scaled = M_new_1[:, :, :, None] * k
    del M_new_1
    S_new_6 = S_new_5.sum(2)
    del S_new_5
    G_before_ij_scaled_2 = S_new_4[:, :, :, None] * G_before_ij_2
    del S_new_4
    S_new_7 = G_before_ij_scaled_2.sum(2)
    del G_before_ij_scaled_2
    S_new_8 = tiles.addcmul_(S_new_7 * rnorm_k_valid_eta_2, G_after_2, S_new_3)
    del G_after_2, S_new_3, S_new_7, rnorm_k_valid_eta_2
    k_scaled_2 = S_new_8[:, :, :, None] * k
    del S_new_8
    U_2 = (G_before_ij @ S_new_2[..., None]).squeeze(-1)
    G_before_ij_scaled_3 = tiles.scale_(G_before_ij, P_2[:, :, None])
    del G_before_ij
    P_3 = G_before_ij_scaled_3 @ G_before_ij_2
    del G_before_ij_scaled_3
    P_4 = tiles.product_(P_3, alpha_rnorm_k[:, :, :, None], rnorm_k_valid_eta[:, :, None])
    del P_3
    P_5 = tiles.addcmul_(-P_4, P_1[:, :, None], G_before_ij_scaled, -1)
    del G_before_ij_scaled, P_4
    P = tiles.product_(P_5, kk)
    del P_5
    U_3 = U_2 * alpha_rnorm_k
    del U_2, alpha_rnorm_k
    o_1 = (G_ij @ S_new_2[..., None]).squeeze(-1)
    del S_new_2
    o_2 = rnorm_q * o_1
    del o_1, rnorm_q
    o_3 = o_2 * rsqrt_K
    del o_2
    G_ij_scaled_2 = tiles.scale_(G_ij, P_2[:, :, None])
    del G_ij, P_2
    A_1 = G_ij_scaled_2 @ G_before_ij_2
    del G_before_ij_2, G_ij_scaled_2
    A_2 = tiles.product_(A_1, rnorm_k_valid_eta[:, :, None], rnorm_q_scaled[:, :, :, None])
    del A_1, rnorm_k_valid_eta, rnorm_q_scaled
    G_ij_scaled_scaled = tiles.scale_(G_ij_scaled, P_1[:, :, None], rsqrt_K)
    del G_ij_scaled, P_1
    A_3 = A_2 + G_ij_scaled_scaled
    del A_2, G_ij_scaled_scaled
    A = tiles.product_(A_3, qk)
    del A_3
    inv = tiles.inverse(P)
    del P
    q_scaled = rnorm_q_G_scaled[:, :, :, None] * q
    del rnorm_q_G_scaled
    k_scaled_3 = U_3[:, :, :, None] * k
    del U_3
    k_scaled_4 = tiles.scale_(k, U_1[:, :, :, None])
    del U_1
    q_scaled_2 = tiles.scale_(q, o_3[:, :, :, None])
    del o_3
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        k_scaled_3_c,
        k_scaled_4_c,
        inv_c,
        q_scaled_c,
        q_scaled_2_c,
        A_c,
        G_C_c,
        k_scaled_c,
        S_new_6_c,
        G_C_2_c,
        k_scaled_2_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_3,
            k_scaled_4,
            inv,
            q_scaled,
            q_scaled_2,
            A,
            G_C[:, :, None, None],
            k_scaled.mT,
            S_new_6[:, :, None, None],
            G_C_2[:, :, None, None],
            k_scaled_2.mT,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        U_4 = torch.baddbmm(v_c, k_scaled_3_c, M, alpha=-1)
        U_4 = scan.addmm(U_4, k_scaled_4_c, S, -1)
        U = torch.bmm(inv_c, U_4, out=U_rows.room(n))
        o = torch.bmm(q_scaled_c, S, out=o_rows.room(n))
        o = scan.addmm(scan.addmm(o, q_scaled_2_c, M), A_c, U)
        M_new = scan.addmm(G_C_c * M, k_scaled_c, U)
        S_new = scan.scale(S, G_C_2_c, own, S_rows if keep else None)
        S_new = scan.addmm(tiles.addcmul_(S_new, S_new_6_c, M), k_scaled_2_c, U)
        if keep:
            U_rows.put(U)
        o_rows.put(o)
        M, S = M_new, S_new
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
        U = U_rows.joined()
    del M_rows
    del S_rows
    del U_rows
    del o_rows
    del A, G_C, G_C_2, S_new_6, k_scaled, k_scaled_2, k_scaled_3, k_scaled_4, q_scaled, q_scaled_2
    return (o,), (M_end, S_end), (M, S, kk, qk, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    H = h0[0].shape[1]
    sigmoid_m = torch.sigmoid(m)
    beta = torch.sigmoid(b_)
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias[:, :, None]
    alpha_2 = tiles.softplus(alpha_1)
    del alpha_1
    alpha_3 = tiles.scale_(alpha_2, exp_A_log[:, :, None], -1)
    del alpha_2, exp_A_log
    alpha = torch.exp(alpha_3)
    eta = torch.sigmoid(e)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    qk = q @ k.mT
    logsigmoid_m = F.logsigmoid(m)
    log2_D_1 = logsigmoid_m * tiles.LOG2E
    del logsigmoid_m
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    log2_D_3 = alpha_3 * tiles.LOG2E
    del alpha_3
    log2_D_2 = torch.where(valid > 0, log2_D_3, 0)
    del log2_D_3
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = torch.exp2(log2_G_before)
    del log2_G_before
    log2_G_before_ij = tiles.segment_sum(log2_D_2, exclusive=True, strict=True)
    G_before_ij = tiles.apply_(torch.exp2_, log2_G_before_ij)
    del log2_G_before_ij
    log2_G_before_2 = tiles.prefix_sum(log2_D_2, 2, exclusive=True)
    G_before_2 = torch.exp2(log2_G_before_2)
    del log2_G_before_2
    log2_G_before_ij_2 = tiles.segment_sum(log2_D, exclusive=True, strict=True)
    G_before_ij_2 = tiles.apply_(torch.exp2_, log2_G_before_ij_2)
    del log2_G_before_ij_2
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_after_2 = tiles.suffix_sum(log2_D_2, 2, exclusive=True)
    G_after_2 = torch.exp2(log2_G_after_2)
    del log2_G_after_2
    log2_G_C_2 = log2_D_2.sum(2)
    del log2_D_2
    G_C_2 = torch.exp2(log2_G_C_2)
    del log2_G_C_2
    valid_beta = valid * beta
    alpha_rnorm_k = alpha * rnorm_k
    del alpha
    valid_eta = valid * eta
    rnorm_k_valid_eta = rnorm_k * valid_eta
    del valid_eta
    valid_eta_2 = valid * eta
    S_new_1 = sigmoid_m * valid_beta
    rnorm_k_valid_eta_2 = rnorm_k * valid_eta_2
    del valid_eta_2
    valid_sigmoid_m = valid * sigmoid_m
    del sigmoid_m
    S_new_2 = G_before * S_new_1
    del G_before
    P_1 = beta * rnorm_k_valid_eta
    P_2 = beta * valid_sigmoid_m
    del beta, valid_sigmoid_m
    eta_valid_beta = eta * valid_beta
    del eta, valid_beta
    U_1 = G_before_2 * alpha_rnorm_k
    del G_before_2
    M_new_1 = G_after * rnorm_k_valid_eta_2
    del G_after
    S_new_3 = rnorm_k * eta_valid_beta
    del eta_valid_beta, rnorm_k
    S_new_4 = G_after_2 * S_new_1
    del S_new_1
    S_new_5 = G_after_2 * S_new_2
    G_before_ij_scaled = alpha_rnorm_k[:, :, :, None] * G_before_ij
    k_scaled = M_new_1[:, :, :, None] * k
    del M_new_1
    S_new_6 = S_new_5.sum(2)
    del S_new_5
    G_before_ij_scaled_2 = S_new_4[:, :, :, None] * G_before_ij_2
    del S_new_4
    S_new_7 = G_before_ij_scaled_2.sum(2)
    del G_before_ij_scaled_2
    S_new_8 = tiles.addcmul_(S_new_7 * rnorm_k_valid_eta_2, G_after_2, S_new_3)
    del G_after_2, S_new_3, S_new_7, rnorm_k_valid_eta_2
    k_scaled_2 = S_new_8[:, :, :, None] * k
    del S_new_8
    U_2 = (G_before_ij @ S_new_2[..., None]).squeeze(-1)
    del S_new_2
    G_before_ij_scaled_3 = tiles.scale_(G_before_ij, P_2[:, :, None])
    del G_before_ij, P_2
    P_3 = G_before_ij_scaled_3 @ G_before_ij_2
    del G_before_ij_2, G_before_ij_scaled_3
    P_4 = tiles.product_(P_3, alpha_rnorm_k[:, :, :, None], rnorm_k_valid_eta[:, :, None])
    del P_3, rnorm_k_valid_eta
    P_5 = tiles.addcmul_(-P_4, P_1[:, :, None], G_before_ij_scaled, -1)
    del G_before_ij_scaled, P_1, P_4
    P = tiles.product_(P_5, kk)
    del P_5
    U_3 = U_2 * alpha_rnorm_k
    del U_2, alpha_rnorm_k
    inv = tiles.inverse(P)
    del P
    k_scaled_3 = U_3[:, :, :, None] * k
    del U_3
    k_scaled_4 = U_1[:, :, :, None] * k
    del U_1
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        k_scaled_3_c,
        k_scaled_4_c,
        inv_c,
        G_C_c,
        k_scaled_c,
        S_new_6_c,
        G_C_2_c,
        k_scaled_2_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_3,
            k_scaled_4,
            inv,
            G_C[:, :, None, None],
            k_scaled.mT,
            S_new_6[:, :, None, None],
            G_C_2[:, :, None, None],
            k_scaled_2.mT,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        U_4 = torch.baddbmm(v_c, k_scaled_3_c, M, alpha=-1)
        U_4 = scan.addmm(U_4, k_scaled_4_c, S, -1)
        U = torch.bmm(inv_c, U_4, out=U_rows.room(n))
        M_new = scan.addmm(G_C_c * M, k_scaled_c, U)
        S_new = scan.scale(S, G_C_2_c, own, S_rows if keep else None)
        S_new = scan.addmm(tiles.addcmul_(S_new, S_new_6_c, M), k_scaled_2_c, U)
        if keep:
            U_rows.put(U)
        M, S = M_new, S_new
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
        U = U_rows.joined()
    del M_rows
    del S_rows
    del U_rows
    del G_C, G_C_2, S_new_6, k_scaled, k_scaled_2, k_scaled_3, k_scaled_4
    return (), (M_end, S_end), (M, S, kk, qk, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, m, b_, e, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (M, S, kk, qk, inv, U) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    sigmoid_m = torch.sigmoid(m)
    beta = torch.sigmoid(b_)
    exp_A_log = torch.exp(A_log)
    alpha_1 = a_ + dt_bias[:, :, None]
    alpha_2 = tiles.softplus(alpha_1)
    alpha_3 = (exp_A_log * -1)[:, :, None] * alpha_2
    alpha = torch.exp(alpha_3)
    eta = torch.sigmoid(e)
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
    logsigmoid_m = F.logsigmoid(m)
    log2_D_1 = logsigmoid_m * tiles.LOG2E
    del logsigmoid_m
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    log2_D_3 = alpha_3 * tiles.LOG2E
    del alpha_3
    log2_D_2 = torch.where(valid > 0, log2_D_3, 0)
    del log2_D_3
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = torch.exp2(log2_G_before)
    del log2_G_before
    log2_G_before_ij = tiles.segment_sum(log2_D_2, exclusive=True, strict=True)
    G_before_ij = tiles.apply_(torch.exp2_, log2_G_before_ij)
    del log2_G_before_ij
    log2_G_before_2 = tiles.prefix_sum(log2_D_2, 2, exclusive=True)
    G_before_2 = torch.exp2(log2_G_before_2)
    del log2_G_before_2
    log2_G_before_ij_2 = tiles.segment_sum(log2_D, exclusive=True, strict=True)
    G_before_ij_2 = tiles.apply_(torch.exp2_, log2_G_before_ij_2)
    del log2_G_before_ij_2
    log2_G_ij = tiles.segment_sum(log2_D_2)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    log2_G = tiles.prefix_sum(log2_D_2, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_after_2 = tiles.suffix_sum(log2_D_2, 2, exclusive=True)
    G_after_2 = torch.exp2(log2_G_after_2)
    del log2_G_after_2
    log2_G_C_2 = log2_D_2.sum(2)
    del log2_D_2
    G_C_2 = torch.exp2(log2_G_C_2)
    del log2_G_C_2
    ln2 = tiles.LN2
    G_before_ij_scaled = G_before_ij_2 * ln2
    log2e = tiles.LOG2E
    m_scaled = m * -1
    sigmoid_m_scaled = torch.sigmoid(m_scaled)
    del m_scaled
    da_1 = torch.sigmoid(alpha_1)
    del alpha_1
    de_1 = -eta + 1
    db_1 = -beta + 1
    dm_1 = -sigmoid_m + 1
    de_2 = eta * de_1
    del de_1
    db_2 = beta * db_1
    del db_1
    dm_2 = sigmoid_m * dm_1
    G_ij_scaled = rnorm_q[:, :, :, None] * G_ij
    valid_beta = valid * beta
    alpha_rnorm_k = alpha * rnorm_k
    valid_eta = valid * eta
    rnorm_k_valid_eta = rnorm_k * valid_eta
    del valid_eta
    valid_eta_2 = valid * eta
    U_1 = sigmoid_m * valid_beta
    rnorm_k_valid_eta_2 = rnorm_k * valid_eta_2
    valid_sigmoid_m = valid * sigmoid_m
    U_2 = G_before * U_1
    P_1 = beta * rnorm_k_valid_eta
    P_2 = beta * valid_sigmoid_m
    del beta, valid_sigmoid_m
    valid_sigmoid_m_2 = valid * sigmoid_m
    del sigmoid_m
    eta_valid_beta = eta * valid_beta
    del eta
    valid_rnorm_k = valid * rnorm_k
    rnorm_q_G = rnorm_q * G
    U_3 = G_before_2 * alpha_rnorm_k
    dlog2_G_after_1 = G_after * rnorm_k_valid_eta_2
    rnorm_k_valid_beta = rnorm_k * valid_beta
    rnorm_k_squared = rnorm_k * rnorm_k
    dG_after_1 = rnorm_k * eta_valid_beta
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    G_before_G_after = G_before * G_after_2
    deta_1 = G_after_2 * U_1
    dM_before_1 = G_after_2 * U_2
    da_2 = G_before * P_2
    rsqrt_K_ln2 = rsqrt_K * ln2
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    G_before_ij_scaled_2 = alpha_rnorm_k[:, :, :, None] * G_before_ij
    valid_scaled = valid * log2e
    rnorm_q_scaled = rnorm_q * rsqrt_K
    rnorm_q_G_scaled = rnorm_q_G * rsqrt_K
    dM_before_2 = dM_before_1.sum(2)
    G_before_ij_scaled_3 = deta_1[:, :, :, None] * G_before_ij_2
    deta_2 = G_before_ij_scaled_3.sum(2)
    del G_before_ij_scaled_3
    dk_1 = tiles.addcmul_(deta_2 * rnorm_k_valid_eta_2, G_after_2, dG_after_1)
    do_scaled = rnorm_q_G[:, :, :, None] * do
    U_4 = (G_before_ij @ U_2[..., None]).squeeze(-1)
    G_before_ij_scaled_4 = P_2[:, :, None] * G_before_ij
    P_3 = G_before_ij_scaled_4 @ G_before_ij_2
    del G_before_ij_scaled_4
    P_4 = tiles.product(P_3, alpha_rnorm_k[:, :, :, None], rnorm_k_valid_eta[:, :, None])
    P_5 = tiles.addcmul_(-P_4, P_1[:, :, None], G_before_ij_scaled_2, -1)
    del P_4
    U_5 = U_4 * alpha_rnorm_k
    dq_1 = (G_ij @ U_2[..., None]).squeeze(-1)
    dq_2 = rnorm_q * dq_1
    dq_3 = dq_2 * rsqrt_K
    G_ij_scaled_2 = P_2[:, :, None] * G_ij
    dqk_1 = G_ij_scaled_2 @ G_before_ij_2
    del G_ij_scaled_2
    dqk_2 = tiles.product(dqk_1, rnorm_k_valid_eta[:, :, None], rnorm_q_scaled[:, :, :, None])
    G_ij_scaled_scaled = (P_1 * rsqrt_K)[:, :, None] * G_ij_scaled
    dqk_3 = dqk_2 + G_ij_scaled_scaled
    del G_ij_scaled_scaled, dqk_2
    dv_1 = qk * dqk_3
    k_scaled = U_3[:, :, :, None] * k
    q_scaled = dq_2[:, :, :, None] * q
    del dq_2
    do_U = do @ U.mT
    dqk = tiles.product_(dqk_3, do_U)
    del dqk_3
    qk_do_U = tiles.product_(do_U, qk)
    del do_U
    G_ij_qk_do_U = G_ij * qk_do_U
    de_3 = rnorm_q[:, :, :, None] * G_ij_qk_do_U
    de_4 = de_3.sum(2)
    del de_3
    dq_4 = tiles.scale_(G_ij_qk_do_U, P_1[:, :, None])
    del G_ij_qk_do_U
    dq_5 = dq_4.sum(3)
    del dq_4
    de_5 = tiles.product_(dqk_1, qk_do_U)
    del dqk_1
    de_6 = rnorm_q[:, :, :, None] * de_5
    de_7 = de_6.sum(2)
    del de_6
    dq_6 = tiles.scale_(de_5, rnorm_k_valid_eta[:, :, None])
    del de_5
    dq_7 = dq_6.sum(3)
    del dq_6
    qk_do_U_scaled = rnorm_k_valid_eta[:, :, None] * qk_do_U
    db_3 = qk_do_U_scaled @ G_before_ij_2.mT
    del qk_do_U_scaled
    dm_3 = G_ij_scaled.mT @ qk_do_U
    del G_ij_scaled
    db_4 = tiles.product_(db_3, G_ij)
    del db_3
    db_5 = tiles.scale_(db_4, rnorm_q[:, :, :, None])
    del db_4
    db_6 = db_5.sum(2)
    dm_4 = tiles.product_(dm_3, rnorm_k_valid_eta[:, :, None], U_1[:, :, :, None], rsqrt_K)
    del dm_3
    de_8 = de_4 * rsqrt_K
    del de_4
    de_9 = de_7 * rsqrt_K
    del de_7
    db_7 = db_6 * rsqrt_K
    del db_6
    k_scaled_2 = U_5[:, :, :, None] * k
    k_scaled_3 = dk_1[:, :, :, None] * k
    k_scaled_4 = dlog2_G_after_1[:, :, :, None] * k
    S_dS_sum_rows = scan.Rows(steps, H, True)
    M_dS_sum_rows = scan.Rows(steps, H, True)
    M_dM_sum_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    do_M_rows = scan.Rows(steps, H, True)
    dk_scaled_rows = scan.Rows(steps, H, True)
    dk_scaled_2_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_2_rows = scan.Rows(steps, H, True)
    dk_3_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    own = False
    for n, (
        k_scaled_3_c,
        k_scaled_4_c,
        dv_1_c,
        do_c,
        inv_c,
        S_c,
        M_c,
        U_c,
        S_c_2,
        M_c_2,
        G_C_2_c,
        q_c,
        do_scaled_c,
        k_scaled_c,
        dM_before_2_c,
        G_C_c,
        q_scaled_c,
        k_scaled_2_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled_3,
            k_scaled_4,
            dv_1.mT,
            do,
            inv.mT,
            S,
            M,
            U,
            S.mT,
            M.mT,
            G_C_2[:, :, None, None],
            q.mT,
            do_scaled,
            k_scaled.mT,
            dM_before_2[:, :, None, None],
            G_C[:, :, None, None],
            q_scaled.mT,
            k_scaled_2.mT,
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_2 = scan.addmm(torch.bmm(k_scaled_3_c, dS), k_scaled_4_c, dM)
        dv_2 = scan.addmm(dv_2, dv_1_c, do_c)
        dv = torch.bmm(inv_c, dv_2, out=dv_rows.room(n))
        S_dS = S_c * dS
        S_dS_sum = torch.sum(S_dS, 1, out=S_dS_sum_rows.room(n))
        M_dS = M_c * dS
        M_dS_sum = torch.sum(M_dS, 1, out=M_dS_sum_rows.room(n))
        M_dM = M_c * dM
        M_dM_sum = torch.sum(M_dM, 1, out=M_dM_sum_rows.room(n))
        dk_scaled = torch.bmm(U_c, dS.mT, out=dk_scaled_rows.room(n))
        dk_scaled_2 = torch.bmm(U_c, dM.mT, out=dk_scaled_2_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        do_M = torch.bmm(do_c, M_c_2, out=do_M_rows.room(n))
        dk_2 = torch.bmm(dv, S_c_2, out=dk_2_rows.room(n))
        dk_3 = torch.bmm(dv, M_c_2, out=dk_3_rows.room(n))
        dS_before = scan.addmm(G_C_2_c * dS, q_c, do_scaled_c, rsqrt_K)
        dS_before = scan.addmm(dS_before, k_scaled_c, dv, -1)
        dM_before = tiles.addcmul_(scan.scale(dM, G_C_c, own), dM_before_2_c, dS)
        dM_before = scan.addmm(dM_before, q_scaled_c, do_c, rsqrt_K)
        dM_before = scan.addmm(dM_before, k_scaled_2_c, dv, -1)
        S_dS_sum_rows.put(S_dS_sum)
        M_dS_sum_rows.put(M_dS_sum)
        M_dM_sum_rows.put(M_dM_sum)
        do_S_rows.put(do_S)
        do_M_rows.put(do_M)
        dk_scaled_rows.put(dk_scaled)
        dk_scaled_2_rows.put(dk_scaled_2)
        dv_rows.put(dv)
        dk_2_rows.put(dk_2)
        dk_3_rows.put(dk_3)
        dM, dS = dM_before, dS_before
        own = True
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    S_dS_sum = S_dS_sum_rows.joined()
    M_dS_sum = M_dS_sum_rows.joined()
    M_dM_sum = M_dM_sum_rows.joined()
    do_S = do_S_rows.joined()
    do_M = do_M_rows.joined()
    dk_scaled = dk_scaled_rows.joined()
    dk_scaled_2 = dk_scaled_2_rows.joined()
    dv = dv_rows.joined()
    dk_2 = dk_2_rows.joined()
    dk_3 = dk_3_rows.joined()
    del S_dS_sum_rows
    del M_dS_sum_rows
    del M_dM_sum_rows
    del do_S_rows
    del do_M_rows
    del dk_scaled_rows
    del dk_scaled_2_rows
    del dv_rows
    del dk_2_rows
    del dk_3_rows
    del dM_before_2, do_scaled, dv_1, k_scaled, k_scaled_2, k_scaled_3, k_scaled_4, q_scaled
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dlog2_G_C = G_C_2 * dG_C * ln2
    del G_C_2, dG_C
    dlog2_G_C_3 = dlog2_G_C[:, :, None].expand(-1, -1, C)
    del dlog2_G_C
    M_dS_sum_sum = M_dS_sum.sum(2)
    del M_dS_sum
    dG_C_2 = M_dM_sum.sum(2)
    del M_dM_sum
    dlog2_G_C_2 = G_C * dG_C_2 * ln2
    del G_C, dG_C_2
    dlog2_G_C_4 = dlog2_G_C_2[:, :, None].expand(-1, -1, C)
    del dlog2_G_C_2
    dm_5 = M_dS_sum_sum * ln2
    dsigmoid_m_1 = tiles.scale_(G_before_G_after, M_dS_sum_sum[:, :, None])
    del G_before_G_after
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dbeta_1 = G_after_2 * k_dk_scaled_sum
    deta_3 = deta_2 * k_dk_scaled_sum
    del deta_2
    dG_after_2 = k_dk_scaled_sum * rnorm_k_valid_eta
    G_before_ij_scaled_5 = dG_after_2[:, :, None] * G_before_ij_2
    dG_after_3 = G_before_ij_scaled_5.sum(3)
    del G_before_ij_scaled_5
    dsigmoid_m_2 = G_after_2 * dG_after_3
    dG_after = tiles.addcmul_(M_dS_sum_sum[:, :, None] * U_2, k_dk_scaled_sum, dG_after_1)
    dG_after = tiles.addcmul_(dG_after, dG_after_3, U_1)
    del M_dS_sum_sum, dG_after_1, dG_after_3, k_dk_scaled_sum
    dlog2_G_after = G_after_2 * dG_after * ln2
    del G_after_2, dG_after
    da_3 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    k_dk_scaled_2 = k * dk_scaled_2
    k_dk_scaled_sum_2 = k_dk_scaled_2.sum(3)
    del k_dk_scaled_2
    deta_4 = G_after * k_dk_scaled_sum_2
    del G_after
    dlog2_G_after_2 = k_dk_scaled_sum_2 * dlog2_G_after_1 * ln2
    del k_dk_scaled_sum_2
    dm_6 = tiles.prefix_sum(dlog2_G_after_2, 2, exclusive=True)
    del dlog2_G_after_2
    qk_do_U_scaled_2 = tiles.product_(qk_do_U, P_1[:, :, None], rnorm_q_scaled[:, :, :, None])
    del qk_do_U, rnorm_q_scaled
    dq_8 = dq_5 * rsqrt_K
    del dq_5
    dq_9 = dq_7 * rsqrt_K
    del dq_7
    da_4 = tiles.scale_(db_5, P_2[:, :, None], rsqrt_K_ln2)
    del db_5
    dm_7 = tiles.product(G_before_ij_scaled, deta_1[:, :, :, None], dG_after_2[:, :, None])
    del dG_after_2, deta_1
    deta = tiles.addcmul_(rnorm_k_valid_beta * dbeta_1, valid_rnorm_k, deta_3)
    deta = tiles.addcmul_(deta, valid_rnorm_k, deta_4)
    dbeta = tiles.addcmul_(valid_sigmoid_m_2 * dsigmoid_m_1, rnorm_k_valid_eta_2, dbeta_1)
    dbeta = tiles.addcmul_(dbeta, valid_sigmoid_m_2, dsigmoid_m_2)
    dsigmoid_m = tiles.addcmul_(valid_beta * dsigmoid_m_1, valid_beta, dsigmoid_m_2)
    del dsigmoid_m_1, dsigmoid_m_2
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    G_q_do_S_sum = G * q_do_S_sum * rsqrt_K
    del G
    da_5 = q_do_S_sum * rnorm_q_G * rsqrt_K_ln2
    del q_do_S_sum, rnorm_q_G
    da_6 = tiles.suffix_sum(da_5, 2)
    del da_5
    q_do_M = q * do_M
    q_do_M_sum = q_do_M.sum(3)
    del q_do_M
    dq_10 = q_do_M_sum * dq_1 * rsqrt_K
    del dq_1
    dq_11 = G_q_do_S_sum + dq_10 + dq_8 + dq_9
    del G_q_do_S_sum, dq_10, dq_8, dq_9
    dq_12 = rnorm_q_cubed * dq_11
    del dq_11, rnorm_q_cubed
    rnorm_q_q_do_M_sum = rnorm_q * q_do_M_sum
    del q_do_M_sum, rnorm_q
    dm_8 = rnorm_q_q_do_M_sum * rsqrt_K
    del rnorm_q_q_do_M_sum
    da_7 = torch.addcmul(qk_do_U_scaled_2, da_2[:, :, None], dm_8[:, :, :, None])
    del qk_do_U_scaled_2
    da_8 = tiles.product_(da_7, G_ij, ln2)
    del da_7
    da_9 = da_4 + da_8
    del da_4, da_8
    da_10 = tiles.segment_sum_grad(da_9)
    del da_9
    dm_9 = (dm_8[..., None, :] @ G_ij).squeeze(-2)
    del G_ij, dm_8
    dq = tiles.addcmul_(rnorm_q_G_scaled[:, :, :, None] * do_S, dq_3[:, :, :, None], do_M)
    dq = tiles.addcmul_(dq, dq_12[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dqk, k)
    del do_M, do_S, dq_12, dq_3, rnorm_q_G_scaled
    dk_4 = dv @ U.mT
    dk_5 = dk_4.tril(-1)
    del dk_4
    dk_6 = tiles.product_(P_5, dk_5)
    del P_5
    de_10 = kk * dk_5
    del dk_5
    de_11 = G_before_ij * de_10
    dk_7 = P_1[:, :, None] * de_11
    dk_8 = dk_7.sum(3)
    del dk_7
    de_12 = tiles.scale_(de_11, alpha_rnorm_k[:, :, :, None])
    del de_11
    de_13 = de_12.sum(2)
    del de_12
    de_14 = tiles.product_(P_3, de_10)
    del P_3
    dk_9 = rnorm_k_valid_eta[:, :, None] * de_14
    dk_10 = dk_9.sum(3)
    del dk_9
    de_15 = tiles.scale_(de_14, alpha_rnorm_k[:, :, :, None])
    del de_14
    de_16 = de_15.sum(2)
    del de_15
    db_8 = rnorm_k_valid_eta[:, :, None] * de_10
    db_9 = db_8 @ G_before_ij_2.mT
    del G_before_ij_2, db_8
    dm_10 = G_before_ij_scaled_2.mT @ de_10
    del G_before_ij_scaled_2
    db_10 = tiles.product_(db_9, G_before_ij)
    del db_9
    db_11 = tiles.scale_(db_10, alpha_rnorm_k[:, :, :, None])
    del db_10
    db_12 = db_11.sum(2)
    dm_11 = tiles.product_(dm_10, rnorm_k_valid_eta[:, :, None], U_1[:, :, :, None])
    del U_1, dm_10, rnorm_k_valid_eta
    dm_12 = dm_4 - dm_11
    del dm_11, dm_4
    dm_13 = torch.addcmul(dm_7, dm_12, G_before_ij_scaled)
    del G_before_ij_scaled, dm_12, dm_7
    dm_14 = tiles.segment_sum_grad(dm_13, exclusive=True)
    del dm_13
    da_11 = tiles.product_(de_10, alpha_rnorm_k[:, :, :, None], P_1[:, :, None])
    del P_1, de_10
    da_12 = tiles.scale_(db_11, P_2[:, :, None], ln2)
    del P_2, db_11
    de_17 = tiles.addcmul_(rnorm_k_valid_beta * de_8, valid_rnorm_k, de_9)
    de_17 = tiles.addcmul_(de_17, de_13, rnorm_k_valid_beta, -1)
    de_17 = tiles.addcmul_(de_17, de_16, valid_rnorm_k, -1)
    del rnorm_k_valid_beta, valid_rnorm_k
    db_13 = tiles.addcmul_(valid_sigmoid_m_2 * db_7, db_12, valid_sigmoid_m_2, -1)
    dm_15 = tiles.addcmul_(valid_beta * db_7, db_12, valid_beta, -1)
    del db_12, db_7, valid_beta
    dk_11 = tiles.addcmul_(eta_valid_beta * dbeta_1, valid_eta_2, deta_3)
    dk_11 = tiles.addcmul_(dk_11, valid_eta_2, deta_4)
    dk_11 = tiles.addcmul_(tiles.addcmul_(dk_11, alpha, dk_8, -1), alpha, dk_10, -1)
    del dbeta_1, deta_3, deta_4
    da_13 = tiles.addcmul_(rnorm_k * -1 * dk_8, rnorm_k, dk_10, -1)
    del dk_10, dk_8
    de = tiles.addcmul_(de_2 * de_17, de_2, deta)
    del de_17, de_2, deta
    dk_12 = k * dk_2
    dk_13 = dk_12.sum(3)
    del dk_12
    dk_14 = G_before_2 * dk_13
    del G_before_2
    da_14 = dk_13 * U_3 * -1 * ln2
    del dk_13
    da_15 = tiles.suffix_sum(da_14, 2, exclusive=True)
    del da_14
    dk_15 = k * dk_3
    dk_16 = dk_15.sum(3)
    del dk_15
    dk_17 = U_4 * dk_16
    del U_4
    dk_18 = tiles.addcmul_(eta_valid_beta * de_8, valid_eta_2, de_9)
    dk_18 = tiles.addcmul_(tiles.addcmul_(dk_18, alpha, dk_14, -1), alpha, dk_17, -1)
    dk_18 = tiles.addcmul_(dk_18, de_13, eta_valid_beta, -1)
    dk_18 = tiles.addcmul_(dk_18, de_16, valid_eta_2, -1)
    del de_16, de_9, eta_valid_beta, valid_eta_2
    dk_19 = tiles.addcmul_(dk_11 * -1 * rnorm_k_cubed, dk_18, rnorm_k_cubed, -1)
    del dk_11, dk_18, rnorm_k_cubed
    dk_20 = dk_6 + dk_6.permute(0, 1, 3, 2)
    del dk_6
    dk = tiles.addcmul_(dk_1[:, :, :, None] * dk_scaled, dlog2_G_after_1[:, :, :, None], dk_scaled_2)
    dk = tiles.addcmul_(dk, dk_19[:, :, :, None], k)
    dk = tiles.addcmul_(dk, U_3[:, :, :, None], dk_2, -1)
    dk = tiles.addcmul_(dk, U_5[:, :, :, None], dk_3, -1)
    dk = tiles.addmm_(tiles.addmm_(dk, dk_20, k), dqk.mT, q)
    del U_3, U_5, dk_1, dk_19, dk_2, dk_20, dk_3, dk_scaled, dk_scaled_2, dlog2_G_after_1, dqk
    dm_16 = dk_16 * alpha_rnorm_k
    del alpha_rnorm_k, dk_16
    da_16 = tiles.addcmul_(-da_11, da_2[:, :, None], dm_16[:, :, :, None], -1)
    del da_11, da_2
    da_17 = tiles.product_(da_16, G_before_ij, ln2)
    del da_16
    da_18 = da_17 - da_12
    del da_12, da_17
    da_19 = tiles.segment_sum_grad(da_18, exclusive=True)
    del da_18
    da_20 = dlog2_G_C_3 + da_6 + da_3 + da_10 + da_15
    da_20 = da_20 + da_19
    del da_10, da_15, da_19, da_3, da_6, dlog2_G_C_3
    da_21 = tiles.addcmul_(da_20 * valid_scaled, alpha, da_13)
    del da_13, da_20
    da_22 = da_1 * da_21
    da_23 = tiles.addcmul_(rnorm_k * -1 * dk_14, rnorm_k, dk_17, -1)
    del dk_14, dk_17, rnorm_k
    da_24 = alpha * da_23
    del alpha, da_23
    da_25 = da_1 * da_24
    del da_1
    da = tiles.addcmul_(exp_A_log[:, :, None] * -1 * da_22, exp_A_log[:, :, None], da_25, -1)
    dm_17 = dm_16 * -1
    del dm_16
    dm_18 = (dm_17[..., None, :] @ G_before_ij).squeeze(-2)
    del G_before_ij, dm_17
    dm_19 = dm_9 + dm_18
    del dm_18, dm_9
    dm_20 = dm_19 * U_2
    del U_2
    dm_21 = dm_20 * ln2
    dm_22 = torch.addcmul(dm_21, dm_5[:, :, None], dM_before_1)
    del dM_before_1, dm_21, dm_5
    dm_23 = tiles.suffix_sum(dm_22, 2, exclusive=True)
    del dm_22
    dm_24 = dlog2_G_C_4 + dm_6 + dm_14 + dm_23
    del dlog2_G_C_4, dm_14, dm_23, dm_6
    dm_25 = tiles.product(sigmoid_m_scaled, dm_24, valid_scaled)
    del dm_24, sigmoid_m_scaled, valid_scaled
    dm = tiles.addcmul_(torch.addcmul(dm_25, dm_2, dm_15), dm_1, dm_20)
    dm = tiles.addcmul_(dm, dm_2, dsigmoid_m)
    del dm_1, dm_15, dm_2, dm_20, dm_25, dsigmoid_m
    db_14 = tiles.product(G_before, dm_19, valid_sigmoid_m_2)
    del G_before, dm_19, valid_sigmoid_m_2
    db_15 = torch.addcmul(db_14, rnorm_k_valid_eta_2, de_8)
    db_15 = tiles.addcmul_(db_15, de_13, rnorm_k_valid_eta_2, -1)
    del db_14, de_13, de_8, rnorm_k_valid_eta_2
    db = tiles.addcmul_(db_2 * db_13, db_2, db_15)
    db = tiles.addcmul_(db, db_2, dbeta)
    del db_13, db_15, db_2, dbeta
    dA_log_1 = alpha_2 * da_24
    del da_24
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    dA_log_3 = alpha_2 * da_21
    del alpha_2, da_21
    dA_log_4 = dA_log_3.sum(2)
    del dA_log_3
    dA_log_5 = -dA_log_2 - dA_log_4
    del dA_log_2, dA_log_4
    dA_log = exp_A_log * dA_log_5
    del dA_log_5
    ddt_bias_1 = da_25.sum(2)
    del da_25
    ddt_bias_2 = da_22.sum(2)
    del da_22
    ddt_bias = tiles.addcmul_(exp_A_log * -1 * ddt_bias_1, exp_A_log, ddt_bias_2, -1)
    del ddt_bias_1, ddt_bias_2, exp_A_log
    return (dq, dk, dv, da, dm, db, de, dA_log, ddt_bias), (dM_end, dS_end)


chunked_backward.unread = (2,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
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
    sigmoid_m = torch.sigmoid(m)
    eta = torch.sigmoid(e)
    beta = torch.sigmoid(b_)
    sigmoid_m_beta = sigmoid_m * beta
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    rnorm_k_eta = rnorm_k * eta
    del eta
    rnorm_q_scaled = rnorm_q * rsqrt_K
    del rnorm_q
    beta_rnorm_k_eta = beta * rnorm_k_eta
    del beta
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    q_ = rnorm_q_scaled[:, :, None] * q
    del rnorm_q_scaled
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    alpha_rnorm_k = alpha * rnorm_k
    del rnorm_k
    k_scaled = alpha_rnorm_k[:, :, None] * k
    del alpha_rnorm_k
    k_scaled_scaled = k_scaled * -1
    del k_scaled
    k_scaled_2 = rnorm_k_eta[:, :, None] * k
    del rnorm_k_eta
    k_scaled_3 = beta_rnorm_k_eta[:, :, None] * k
    del beta_rnorm_k_eta
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        k_scaled_scaled_c,
        v_c,
        sigmoid_m_beta_c,
        alpha_c,
        k_scaled_3_c,
        q__c,
        sigmoid_m_c,
        k_scaled_2_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled_scaled,
            v,
            sigmoid_m_beta[:, :, None, None],
            alpha[:, :, None, None],
            k_scaled_3[:, :, :, None],
            q_,
            sigmoid_m[:, :, None, None],
            k_scaled_2[:, :, :, None],
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        k_scaled_scaled_S = (k_scaled_scaled_c[..., None, :] @ S).squeeze(-2)
        M_new_1 = v_c + k_scaled_scaled_S
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, sigmoid_m_beta_c, M)
        S_new = tiles.addcmul_(S_new, k_scaled_3_c, M_new_1[:, None])
        o = (q__c[..., None, :] @ S_new).squeeze(-2)
        M_new = scan.scale(M, sigmoid_m_c, own, M_rows if keep else None)
        M_new = tiles.addcmul_(M_new, k_scaled_2_c, M_new_1[:, None])
        o_rows.put(o)
        M, S = M_new, S_new
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del o_rows
    del alpha, k_scaled_2, k_scaled_3, k_scaled_scaled, q_, sigmoid_m, sigmoid_m_beta
    return (o,), (M_end, S_end), (M, S) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, m, b_, e, A_log, dt_bias) = args
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
    sigmoid_m = torch.sigmoid(m)
    eta = torch.sigmoid(e)
    beta = torch.sigmoid(b_)
    sigmoid_m_beta = sigmoid_m * beta
    rnorm_k_eta = rnorm_k * eta
    del eta
    beta_rnorm_k_eta = beta * rnorm_k_eta
    del beta
    alpha_3 = exp_A_log * alpha_2
    del alpha_2, exp_A_log
    alpha_4 = alpha_3 * -1
    del alpha_3
    alpha = torch.exp(alpha_4)
    del alpha_4
    alpha_rnorm_k = alpha * rnorm_k
    del rnorm_k
    k_scaled = alpha_rnorm_k[:, :, None] * k
    del alpha_rnorm_k
    k_scaled_scaled = k_scaled * -1
    del k_scaled
    k_scaled_2 = rnorm_k_eta[:, :, None] * k
    del rnorm_k_eta
    k_scaled_3 = beta_rnorm_k_eta[:, :, None] * k
    del beta_rnorm_k_eta
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        k_scaled_scaled_c,
        v_c,
        sigmoid_m_c,
        k_scaled_2_c,
        sigmoid_m_beta_c,
        alpha_c,
        k_scaled_3_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled_scaled,
            v,
            sigmoid_m[:, :, None, None],
            k_scaled_2[:, :, :, None],
            sigmoid_m_beta[:, :, None, None],
            alpha[:, :, None, None],
            k_scaled_3[:, :, :, None],
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        k_scaled_scaled_S = (k_scaled_scaled_c[..., None, :] @ S).squeeze(-2)
        M_new_1 = v_c + k_scaled_scaled_S
        M_new = tiles.addcmul_(sigmoid_m_c * M, k_scaled_2_c, M_new_1[:, None])
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, sigmoid_m_beta_c, M)
        S_new = tiles.addcmul_(S_new, k_scaled_3_c, M_new_1[:, None])
        M, S = M_new, S_new
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del alpha, k_scaled_2, k_scaled_3, k_scaled_scaled, sigmoid_m, sigmoid_m_beta
    return (), (M_end, S_end), (M, S) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (M, S) = kept
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
    sigmoid_m = torch.sigmoid(m)
    eta = torch.sigmoid(e)
    beta = torch.sigmoid(b_)
    sigmoid_m_beta = sigmoid_m * beta
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -beta + 1
    de_1 = -eta + 1
    dm_1 = -sigmoid_m + 1
    ddt_bias_1 = torch.sigmoid(alpha_1)
    del alpha_1
    rnorm_k_eta = rnorm_k * eta
    rnorm_q_scaled = rnorm_q * rsqrt_K
    beta_rnorm_k_eta = beta * rnorm_k_eta
    alpha_3 = exp_A_log * alpha_2
    del alpha_2
    q_ = rnorm_q_scaled[:, :, None] * q
    alpha_4 = alpha_3 * -1
    alpha = torch.exp(alpha_4)
    del alpha_4
    alpha_rnorm_k = alpha * rnorm_k
    k_scaled = alpha_rnorm_k[:, :, None] * k
    k_scaled_scaled = k_scaled * -1
    k_scaled_scaled_S = (k_scaled_scaled[..., None, :] @ S).squeeze(-2)
    del k_scaled_scaled
    dq_scaled_1 = v + k_scaled_scaled_S
    del k_scaled_scaled_S
    dq_scaled_2 = (beta_rnorm_k_eta[:, :, None] * k)[:, :, :, None] * dq_scaled_1[:, :, None]
    dq_scaled_3 = torch.addcmul(dq_scaled_2, sigmoid_m_beta[:, :, None, None], M)
    dq_scaled_3 = tiles.addcmul_(dq_scaled_3, alpha[:, :, None, None], S)
    del dq_scaled_2
    dq_scaled = (do[..., None, :] @ dq_scaled_3.mT).squeeze(-2)
    del dq_scaled_3
    dS_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    q_dq_scaled = q * dq_scaled
    q_dq_scaled_sum = q_dq_scaled.sum(2)
    del q_dq_scaled
    dnorm2_q_eps = tiles.product(rnorm_q, rnorm_q, q_dq_scaled_sum, rnorm_q_scaled, -0.5)
    del q_dq_scaled_sum, rnorm_q
    dq = tiles.addcmul_(rnorm_q_scaled[:, :, None] * dq_scaled, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_scaled, rnorm_q_scaled
    dM_scaled_sum_rows = scan.Rows(steps, H, True)
    M_dM_sum_rows = scan.Rows(steps, H, True)
    dS_before_2_rows = scan.Rows(steps, H, True)
    dv_2_rows = scan.Rows(steps, H, True)
    dM_scaled_sum_2_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    own = False
    for n, (
        k_c,
        dS_before_1_c,
        beta_rnorm_k_eta_c,
        rnorm_k_eta_c,
        M_c,
        dq_scaled_1_c,
        sigmoid_m_beta_c,
        sigmoid_m_c,
        alpha_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k,
            dS_before_1,
            beta_rnorm_k_eta[:, :, None],
            rnorm_k_eta[:, :, None],
            M,
            dq_scaled_1,
            sigmoid_m_beta[:, :, None, None],
            sigmoid_m[:, :, None, None],
            alpha[:, :, None, None],
            k_scaled[:, :, :, None],
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dM_scaled = k_c[:, :, None] * dM
        dM_scaled_sum = torch.sum(dM_scaled, 1, out=dM_scaled_sum_rows.room(n))
        dS_before_2 = dS + dS_before_1_c
        dv_1 = k_c[:, :, None] * dS_before_2
        dv_2 = torch.sum(dv_1, 1, out=dv_2_rows.room(n))
        dv = torch.mul(beta_rnorm_k_eta_c, dv_2, out=dv_rows.room(n))
        dv = tiles.addcmul_(dv, rnorm_k_eta_c, dM_scaled_sum)
        M_dM = M_c * dM
        M_dM_sum = torch.sum(M_dM, 1, out=M_dM_sum_rows.room(n))
        dM_scaled_2 = dq_scaled_1_c[:, None] * dM
        dM_scaled_sum_2 = torch.sum(dM_scaled_2, 2, out=dM_scaled_sum_2_rows.room(n))
        dM_before = tiles.addcmul_(scan.scale(dM, sigmoid_m_c, own), sigmoid_m_beta_c, dS_before_2)
        dS_before = tiles.addcmul_(alpha_c * dS_before_2, k_scaled_c, dv[:, None], -1)
        dM_scaled_sum_rows.put(dM_scaled_sum)
        M_dM_sum_rows.put(M_dM_sum)
        dS_before_2_rows.put(dS_before_2)
        dv_2_rows.put(dv_2)
        dM_scaled_sum_2_rows.put(dM_scaled_sum_2)
        dv_rows.put(dv)
        dM, dS = dM_before, dS_before
        own = True
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dM_scaled_sum = dM_scaled_sum_rows.joined()
    M_dM_sum = M_dM_sum_rows.joined()
    dS_before_2 = dS_before_2_rows.joined()
    dv_2 = dv_2_rows.joined()
    dM_scaled_sum_2 = dM_scaled_sum_2_rows.joined()
    dv = dv_rows.joined()
    del dM_scaled_sum_rows
    del M_dM_sum_rows
    del dS_before_2_rows
    del dv_2_rows
    del dM_scaled_sum_2_rows
    del dv_rows
    del dS_before_1, k_scaled, sigmoid_m_beta
    M_dM_sum_sum = M_dM_sum.sum(2)
    del M_dM_sum
    dk_1 = dq_scaled_1[:, :, None] * dS_before_2
    dk_2 = dk_1.sum(3)
    del dk_1
    dbeta_1 = dq_scaled_1 * dv_2
    del dv_2
    dbeta_2 = dbeta_1.sum(2)
    del dbeta_1
    drnorm_k_1 = beta * dbeta_2
    ddt_bias_2 = S * dS_before_2
    ddt_bias_3 = ddt_bias_2.sum(2)
    del ddt_bias_2
    ddt_bias_4 = ddt_bias_3.sum(2)
    del ddt_bias_3
    dsigmoid_m_1 = M * dS_before_2
    del dS_before_2
    dsigmoid_m_2 = dsigmoid_m_1.sum(2)
    del dsigmoid_m_1
    dsigmoid_m_3 = dsigmoid_m_2.sum(2)
    del dsigmoid_m_2
    dbeta = tiles.addcmul_(dbeta_2 * rnorm_k_eta, sigmoid_m, dsigmoid_m_3)
    del dbeta_2
    db = tiles.product(beta, dbeta, db_1)
    del db_1, dbeta
    drnorm_k_2 = dq_scaled_1 * dM_scaled_sum
    del dM_scaled_sum, dq_scaled_1
    drnorm_k_3 = drnorm_k_2.sum(2)
    del drnorm_k_2
    deta = tiles.addcmul_(rnorm_k * drnorm_k_1, rnorm_k, drnorm_k_3)
    de = tiles.product(eta, deta, de_1)
    del de_1, deta
    dsigmoid_m = torch.addcmul(M_dM_sum_sum, beta, dsigmoid_m_3)
    del M_dM_sum_sum, beta, dsigmoid_m_3
    dm = tiles.product(sigmoid_m, dsigmoid_m, dm_1)
    del dm_1, dsigmoid_m, sigmoid_m
    dk_scaled = (dv[..., None, :] @ S.mT).squeeze(-2)
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(2)
    del k_dk_scaled
    drnorm_k = tiles.addcmul_(eta * drnorm_k_1, eta, drnorm_k_3)
    drnorm_k = tiles.addcmul_(drnorm_k, alpha, k_dk_scaled_sum, -1)
    del drnorm_k_1, drnorm_k_3, eta
    dnorm2_k_eps = tiles.product(rnorm_k, rnorm_k, rnorm_k, drnorm_k, -0.5)
    del drnorm_k
    ddt_bias_5 = torch.addcmul(ddt_bias_4, rnorm_k, k_dk_scaled_sum, value=-1)
    del ddt_bias_4, k_dk_scaled_sum, rnorm_k
    ddt_bias_6 = alpha * ddt_bias_5
    del alpha, ddt_bias_5
    ddt_bias = tiles.product(exp_A_log, ddt_bias_6, ddt_bias_1, -1)
    del ddt_bias_1, exp_A_log
    dA_log = ddt_bias_6 * alpha_3 * -1
    del alpha_3, ddt_bias_6
    dk = tiles.addcmul_(beta_rnorm_k_eta[:, :, None] * dk_2, rnorm_k_eta[:, :, None], dM_scaled_sum_2)
    dk = tiles.addcmul_(dk, dnorm2_k_eps[:, :, None], k, 2)
    dk = tiles.addcmul_(dk, alpha_rnorm_k[:, :, None], dk_scaled, -1)
    del alpha_rnorm_k, beta_rnorm_k_eta, dM_scaled_sum_2, dk_2, dk_scaled, dnorm2_k_eps, rnorm_k_eta
    return (dq, dk, dv, ddt_bias, dm, db, de, dA_log, ddt_bias), (dM_end, dS_end)
