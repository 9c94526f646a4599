"""titans_linear: generated from its spec by rnnc; do not edit.

M[t] = eta * M[t-1] + theta * u @ (v - S[t-1].T @ u).T
S[t] = eta * M[t-1] + (1 - alpha) * S[t-1] + theta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  alpha = sigmoid(a)
  eta = sigmoid(b)
  theta = sigmoid(c)
  u = unit(k)

In a chunk of C tokens with the incoming states M_in, S_in:
  D = [[eta, 0], [eta, 1 - alpha]], of (M, S)
  w_M = theta * u,  w_S = theta * u,  f_S = -u
  q_ = unit(q)
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

NAME = "titans_linear"
SPEC_HASH = "de8d595226046b6c1780000f7a617ba14f6ab6d42d26269fb04591382e161d99"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()), ("c", ()))
PARAMS = ()
STATES = (("M", ("K", "V")), ("S", ("K", "V")))
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    eta = torch.sigmoid(b_)
    valid_eta = valid * eta
    theta = torch.sigmoid(c)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    qk = q @ k.mT
    logsigmoid_b = F.logsigmoid(b_)
    log2_D_1 = logsigmoid_b * tiles.LOG2E
    del logsigmoid_b
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    a_scaled = a_ * -1
    log2_D_3 = F.logsigmoid(a_scaled)
    del a_scaled
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D_2 = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
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
    G_before_ij_scaled = rnorm_k[:, :, :, None] * G_before_ij
    valid_theta = valid * theta
    P_1 = rnorm_k * valid_theta
    del valid_theta
    valid_theta_2 = valid * theta
    del theta
    M_new_1 = rnorm_k * valid_theta_2
    del valid_theta_2
    valid_eta_G_before = valid_eta * G_before
    del G_before
    valid_eta_2 = valid * eta
    del eta
    rnorm_k_G_before = rnorm_k * G_before_2
    del G_before_2
    rnorm_q_G = rnorm_q * G
    del G
    M_new_2 = G_after * M_new_1
    del G_after
    valid_eta_G_after = valid_eta * G_after_2
    del valid_eta
    S_new_1 = G_after_2 * valid_eta_G_before
    k_scaled = M_new_2[:, :, :, None] * k
    del M_new_2
    S_new_2 = S_new_1.sum(2)
    del S_new_1
    G_before_ij_scaled_2 = valid_eta_G_after[:, :, :, None] * G_before_ij_2
    del valid_eta_G_after
    S_new_3 = G_before_ij_scaled_2.sum(2)
    del G_before_ij_scaled_2
    S_new_4 = tiles.addcmul_(S_new_3 * M_new_1, G_after_2, M_new_1)
    del G_after_2, M_new_1, S_new_3
    k_scaled_2 = S_new_4[:, :, :, None] * k
    del S_new_4
    U_1 = (G_before_ij @ valid_eta_G_before[..., None]).squeeze(-1)
    G_before_ij_scaled_3 = tiles.scale_(G_before_ij, valid_eta_2[:, :, None])
    del G_before_ij
    P_2 = G_before_ij_scaled_3 @ G_before_ij_2
    del G_before_ij_scaled_3
    P_3 = tiles.product_(P_2, rnorm_k[:, :, :, None], P_1[:, :, None])
    del P_2
    P_4 = tiles.addcmul_(-P_3, P_1[:, :, None], G_before_ij_scaled, -1)
    del G_before_ij_scaled, P_3
    P = tiles.product_(P_4, kk)
    del P_4
    U_2 = rnorm_k * U_1
    del U_1, rnorm_k
    o_1 = (G_ij @ valid_eta_G_before[..., None]).squeeze(-1)
    del valid_eta_G_before
    o_2 = rnorm_q * o_1
    del o_1
    G_ij_scaled_2 = tiles.scale_(G_ij, valid_eta_2[:, :, None])
    del G_ij, valid_eta_2
    A_1 = G_ij_scaled_2 @ G_before_ij_2
    del G_before_ij_2, G_ij_scaled_2
    A_2 = tiles.product_(A_1, rnorm_q[:, :, :, None], P_1[:, :, None])
    del A_1, rnorm_q
    A_3 = torch.addcmul(A_2, P_1[:, :, None], G_ij_scaled)
    del A_2, G_ij_scaled, P_1
    A = tiles.product_(A_3, qk)
    del A_3
    inv = tiles.inverse(P)
    del P
    q_scaled = rnorm_q_G[:, :, :, None] * q
    del rnorm_q_G
    k_scaled_3 = U_2[:, :, :, None] * k
    del U_2
    k_scaled_4 = tiles.scale_(k, rnorm_k_G_before[:, :, :, None])
    del rnorm_k_G_before
    q_scaled_2 = tiles.scale_(q, o_2[:, :, :, None])
    del o_2
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
        S_new_2_c,
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
            S_new_2[:, :, None, None],
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
        U_3 = torch.baddbmm(v_c, k_scaled_3_c, M, alpha=-1)
        U_3 = scan.addmm(U_3, k_scaled_4_c, S, -1)
        U = torch.bmm(inv_c, U_3, out=U_rows.room(n))
        o = torch.bmm(q_scaled_c, S, out=o_rows.room(n))
        o = scan.addmm(scan.addmm(o, q_scaled_2_c, M), A_c, U)
        M_new = scan.addmm(G_C_c * M, k_scaled_c, U)
        S_new = scan.scale(S, G_C_2_c, own, S_rows if keep else None)
        S_new = scan.addmm(tiles.addcmul_(S_new, S_new_2_c, M), k_scaled_2_c, U)
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
    del A, G_C, G_C_2, S_new_2, k_scaled, k_scaled_2, k_scaled_3, k_scaled_4, q_scaled, q_scaled_2
    return (o,), (M_end, S_end), (M, S, kk, qk, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    eta = torch.sigmoid(b_)
    valid_eta = valid * eta
    theta = torch.sigmoid(c)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    qk = q @ k.mT
    logsigmoid_b = F.logsigmoid(b_)
    log2_D_1 = logsigmoid_b * tiles.LOG2E
    del logsigmoid_b
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    a_scaled = a_ * -1
    log2_D_3 = F.logsigmoid(a_scaled)
    del a_scaled
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D_2 = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
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
    G_before_ij_scaled = rnorm_k[:, :, :, None] * G_before_ij
    valid_theta = valid * theta
    P_1 = rnorm_k * valid_theta
    del valid_theta
    valid_theta_2 = valid * theta
    del theta
    M_new_1 = rnorm_k * valid_theta_2
    del valid_theta_2
    valid_eta_G_before = valid_eta * G_before
    del G_before
    valid_eta_2 = valid * eta
    del eta
    rnorm_k_G_before = rnorm_k * G_before_2
    del G_before_2
    M_new_2 = G_after * M_new_1
    del G_after
    valid_eta_G_after = valid_eta * G_after_2
    del valid_eta
    S_new_1 = G_after_2 * valid_eta_G_before
    k_scaled = M_new_2[:, :, :, None] * k
    del M_new_2
    S_new_2 = S_new_1.sum(2)
    del S_new_1
    G_before_ij_scaled_2 = valid_eta_G_after[:, :, :, None] * G_before_ij_2
    del valid_eta_G_after
    S_new_3 = G_before_ij_scaled_2.sum(2)
    del G_before_ij_scaled_2
    S_new_4 = tiles.addcmul_(S_new_3 * M_new_1, G_after_2, M_new_1)
    del G_after_2, M_new_1, S_new_3
    k_scaled_2 = S_new_4[:, :, :, None] * k
    del S_new_4
    U_1 = (G_before_ij @ valid_eta_G_before[..., None]).squeeze(-1)
    del valid_eta_G_before
    G_before_ij_scaled_3 = tiles.scale_(G_before_ij, valid_eta_2[:, :, None])
    del G_before_ij, valid_eta_2
    P_2 = G_before_ij_scaled_3 @ G_before_ij_2
    del G_before_ij_2, G_before_ij_scaled_3
    P_3 = tiles.product_(P_2, rnorm_k[:, :, :, None], P_1[:, :, None])
    del P_2
    P_4 = tiles.addcmul_(-P_3, P_1[:, :, None], G_before_ij_scaled, -1)
    del G_before_ij_scaled, P_1, P_3
    P = tiles.product_(P_4, kk)
    del P_4
    U_2 = rnorm_k * U_1
    del U_1, rnorm_k
    inv = tiles.inverse(P)
    del P
    k_scaled_3 = U_2[:, :, :, None] * k
    del U_2
    k_scaled_4 = rnorm_k_G_before[:, :, :, None] * k
    del rnorm_k_G_before
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
        S_new_2_c,
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
            S_new_2[:, :, None, None],
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
        U_3 = torch.baddbmm(v_c, k_scaled_3_c, M, alpha=-1)
        U_3 = scan.addmm(U_3, k_scaled_4_c, S, -1)
        U = torch.bmm(inv_c, U_3, out=U_rows.room(n))
        M_new = scan.addmm(G_C_c * M, k_scaled_c, U)
        S_new = scan.scale(S, G_C_2_c, own, S_rows if keep else None)
        S_new = scan.addmm(tiles.addcmul_(S_new, S_new_2_c, M), k_scaled_2_c, U)
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
    del G_C, G_C_2, S_new_2, k_scaled, k_scaled_2, k_scaled_3, k_scaled_4
    return (), (M_end, S_end), (M, S, kk, qk, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, c) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (M, S, kk, qk, inv, U) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    eta = torch.sigmoid(b_)
    valid_eta = valid * eta
    alpha = torch.sigmoid(a_)
    theta = torch.sigmoid(c)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    logsigmoid_b = F.logsigmoid(b_)
    log2_D_1 = logsigmoid_b * tiles.LOG2E
    del logsigmoid_b
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    a_scaled = a_ * -1
    log2_D_3 = F.logsigmoid(a_scaled)
    del a_scaled
    log2_D_4 = log2_D_3 * tiles.LOG2E
    del log2_D_3
    log2_D_2 = torch.where(valid > 0, log2_D_4, 0)
    del log2_D_4
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
    b_scaled = b_ * -1
    sigmoid_b_scaled = torch.sigmoid(b_scaled)
    del b_scaled
    dc_1 = -theta + 1
    db_1 = -eta + 1
    dc_2 = theta * dc_1
    del dc_1
    db_2 = eta * db_1
    G_ij_scaled = rnorm_q[:, :, :, None] * G_ij
    G_before_ij_scaled_2 = rnorm_k[:, :, :, None] * G_before_ij
    valid_theta = valid * theta
    P_1 = rnorm_k * valid_theta
    del valid_theta
    valid_theta_2 = valid * theta
    del theta
    valid_rnorm_k = valid * rnorm_k
    dlog2_G_after_1 = rnorm_k * valid_theta_2
    valid_eta_G_before = valid_eta * G_before
    valid_eta_2 = valid * eta
    del eta
    rnorm_k_G_before = rnorm_k * G_before_2
    rnorm_q_G = rnorm_q * G
    dlog2_G_after_3 = G_after * dlog2_G_after_1
    valid_G_after = valid * G_after_2
    valid_eta_G_after = valid_eta * G_after_2
    rnorm_k_squared = rnorm_k * rnorm_k
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    dM_before_1 = G_after_2 * valid_eta_G_before
    G_before_valid_eta = G_before * valid_eta_2
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    valid_scaled = valid * log2e
    valid_eta_scaled = valid_eta_2 * ln2
    dM_before_2 = dM_before_1.sum(2)
    G_before_ij_scaled_3 = valid_eta_G_after[:, :, :, None] * G_before_ij_2
    dtheta_1 = G_before_ij_scaled_3.sum(2)
    del G_before_ij_scaled_3
    dk_1 = tiles.addcmul_(dtheta_1 * dlog2_G_after_1, G_after_2, dlog2_G_after_1)
    dqS = rnorm_q_G[:, :, :, None] * do
    U_1 = (G_before_ij @ valid_eta_G_before[..., None]).squeeze(-1)
    G_before_ij_scaled_4 = valid_eta_2[:, :, None] * G_before_ij
    P_2 = G_before_ij_scaled_4 @ G_before_ij_2
    del G_before_ij_scaled_4
    P_3 = tiles.product(P_2, rnorm_k[:, :, :, None], P_1[:, :, None])
    P_4 = tiles.addcmul_(-P_3, P_1[:, :, None], G_before_ij_scaled_2, -1)
    del P_3
    U_2 = rnorm_k * U_1
    dq_1 = (G_ij @ valid_eta_G_before[..., None]).squeeze(-1)
    dq_2 = rnorm_q * dq_1
    G_ij_scaled_2 = valid_eta_2[:, :, None] * G_ij
    del valid_eta_2
    dqk_1 = G_ij_scaled_2 @ G_before_ij_2
    del G_ij_scaled_2
    dqk_2 = tiles.product(dqk_1, rnorm_q[:, :, :, None], P_1[:, :, None])
    dqk_3 = torch.addcmul(dqk_2, P_1[:, :, None], G_ij_scaled)
    del dqk_2
    dv_1 = qk * dqk_3
    k_scaled = rnorm_k_G_before[:, :, :, None] * k
    q_scaled = dq_2[:, :, :, None] * q
    do_U = do @ U.mT
    dqk = tiles.product_(dqk_3, do_U)
    del dqk_3
    qk_do_U = tiles.product_(do_U, qk)
    del do_U
    G_ij_qk_do_U = G_ij * qk_do_U
    dq_3 = P_1[:, :, None] * G_ij_qk_do_U
    qk_do_U_scaled = P_1[:, :, None] * qk_do_U
    dc_3 = tiles.scale_(G_ij_qk_do_U, rnorm_q[:, :, :, None])
    del G_ij_qk_do_U
    dc_4 = dc_3.sum(2)
    del dc_3
    dq_4 = dq_3.sum(3)
    del dq_3
    dq_5 = tiles.product_(dqk_1, qk_do_U)
    del dqk_1
    dq_6 = P_1[:, :, None] * dq_5
    dc_5 = tiles.scale_(dq_5, rnorm_q[:, :, :, None])
    del dq_5
    dc_6 = dc_5.sum(2)
    del dc_5
    dq_7 = dq_6.sum(3)
    del dq_6
    db_3 = qk_do_U_scaled @ G_before_ij_2.mT
    db_4 = G_ij_scaled.mT @ qk_do_U
    del G_ij_scaled, qk_do_U
    db_5 = tiles.product_(db_3, G_ij)
    del db_3
    db_6 = tiles.scale_(db_5, rnorm_q[:, :, :, None])
    del db_5
    db_7 = db_6.sum(2)
    db_8 = tiles.product_(db_4, valid_eta[:, :, :, None], P_1[:, :, None])
    del db_4
    k_scaled_2 = U_2[:, :, :, None] * k
    k_scaled_3 = dk_1[:, :, :, None] * k
    k_scaled_4 = dlog2_G_after_3[:, :, :, None] * k
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
        dqS_c,
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
            dqS,
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
        dS_before = scan.addmm(scan.addmm(G_C_2_c * dS, q_c, dqS_c), k_scaled_c, dv, -1)
        dM_before = tiles.addcmul_(scan.scale(dM, G_C_c, own), dM_before_2_c, dS)
        dM_before = scan.addmm(scan.addmm(dM_before, q_scaled_c, do_c), k_scaled_2_c, dv, -1)
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
    del dM_before_2, dqS, dv_1, k_scaled, k_scaled_2, k_scaled_3, k_scaled_4, q_scaled
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
    db_9 = M_dS_sum_sum * ln2
    deta_1 = tiles.product(G_before, valid_G_after, M_dS_sum_sum[:, :, None])
    del G_before
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dtheta_2 = G_after_2 * k_dk_scaled_sum
    dtheta_3 = dtheta_1 * k_dk_scaled_sum
    del dtheta_1
    deta_2 = k_dk_scaled_sum * P_1
    G_before_ij_scaled_5 = deta_2[:, :, None] * G_before_ij_2
    deta_3 = G_before_ij_scaled_5.sum(3)
    del G_before_ij_scaled_5
    dG_after = M_dS_sum_sum[:, :, None] * valid_eta_G_before
    dG_after = tiles.addcmul_(dG_after, k_dk_scaled_sum, dlog2_G_after_1)
    dG_after = tiles.addcmul_(dG_after, valid_eta, deta_3)
    del M_dS_sum_sum, dlog2_G_after_1, k_dk_scaled_sum
    dlog2_G_after = G_after_2 * dG_after * ln2
    del G_after_2, dG_after
    da_1 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    k_dk_scaled_2 = k * dk_scaled_2
    k_dk_scaled_sum_2 = k_dk_scaled_2.sum(3)
    del k_dk_scaled_2
    dtheta_4 = G_after * k_dk_scaled_sum_2
    del G_after
    dlog2_G_after_2 = k_dk_scaled_sum_2 * dlog2_G_after_3 * ln2
    del k_dk_scaled_sum_2
    db_10 = tiles.prefix_sum(dlog2_G_after_2, 2, exclusive=True)
    del dlog2_G_after_2
    db_11 = tiles.product(G_before_ij_scaled, valid_eta_G_after[:, :, :, None], deta_2[:, :, None])
    del deta_2, valid_eta_G_after
    dtheta = tiles.addcmul_(valid_rnorm_k * dtheta_2, valid_rnorm_k, dtheta_3)
    dtheta = tiles.addcmul_(dtheta, valid_rnorm_k, dtheta_4)
    deta = torch.addcmul(deta_1, deta_3, valid_G_after)
    del deta_1, deta_3, valid_G_after
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    da_2 = q_do_S_sum * rnorm_q_G * ln2
    da_3 = tiles.suffix_sum(da_2, 2)
    del da_2
    q_do_M = q * do_M
    q_do_M_sum = q_do_M.sum(3)
    del q_do_M
    dq_8 = tiles.addcmul_(dq_4 + dq_7, G, q_do_S_sum)
    dq_8 = tiles.addcmul_(dq_8, q_do_M_sum, dq_1)
    del G, dq_1, dq_4, dq_7, q_do_S_sum
    dq_9 = rnorm_q_cubed * dq_8
    del dq_8, rnorm_q_cubed
    rnorm_q_q_do_M_sum = rnorm_q * q_do_M_sum
    del q_do_M_sum
    da_4 = rnorm_q_q_do_M_sum[:, :, :, None] * G_before_valid_eta[:, :, None]
    da_4 = tiles.addcmul_(da_4, rnorm_q[:, :, :, None], qk_do_U_scaled)
    del qk_do_U_scaled, rnorm_q
    da_5 = tiles.product_(da_4, G_ij, ln2)
    del da_4
    da_6 = torch.addcmul(da_5, valid_eta_scaled[:, :, None], db_6)
    del da_5, db_6
    da_7 = tiles.segment_sum_grad(da_6)
    del da_6
    db_12 = (rnorm_q_q_do_M_sum[..., None, :] @ G_ij).squeeze(-2)
    del G_ij, rnorm_q_q_do_M_sum
    dq = tiles.addcmul_(rnorm_q_G[:, :, :, None] * do_S, dq_2[:, :, :, None], do_M)
    dq = tiles.addcmul_(dq, dq_9[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dqk, k)
    del do_M, do_S, dq_2, dq_9, rnorm_q_G
    dk_4 = dv @ U.mT
    dk_5 = dk_4.tril(-1)
    del dk_4
    dk_6 = tiles.product_(P_4, dk_5)
    del P_4
    dc_7 = kk * dk_5
    del dk_5
    dc_8 = G_before_ij * dc_7
    dk_7 = P_1[:, :, None] * dc_8
    dk_8 = dk_7.sum(3)
    del dk_7
    dc_9 = tiles.scale_(dc_8, rnorm_k[:, :, :, None])
    del dc_8
    dc_10 = dc_9.sum(2)
    del dc_9
    dc_11 = tiles.product_(P_2, dc_7)
    del P_2
    dk_9 = P_1[:, :, None] * dc_11
    dk_10 = dk_9.sum(3)
    del dk_9
    dc_12 = tiles.scale_(dc_11, rnorm_k[:, :, :, None])
    del dc_11
    dc_13 = dc_12.sum(2)
    del dc_12
    da_8 = P_1[:, :, None] * dc_7
    db_13 = da_8 @ G_before_ij_2.mT
    del G_before_ij_2
    db_14 = G_before_ij_scaled_2.mT @ dc_7
    del G_before_ij_scaled_2, dc_7
    db_15 = tiles.product_(db_13, G_before_ij)
    del db_13
    db_16 = tiles.scale_(db_15, rnorm_k[:, :, :, None])
    del db_15
    db_17 = db_16.sum(2)
    db_18 = tiles.product_(db_14, valid_eta[:, :, :, None], P_1[:, :, None])
    del P_1, db_14, valid_eta
    db_19 = db_8 - db_18
    del db_18, db_8
    db_20 = torch.addcmul(db_11, db_19, G_before_ij_scaled)
    del G_before_ij_scaled, db_11, db_19
    db_21 = tiles.segment_sum_grad(db_20, exclusive=True)
    del db_20
    dc_14 = tiles.addcmul_(dc_4 * valid_rnorm_k, dc_6, valid_rnorm_k)
    dc_14 = tiles.addcmul_(dc_14, dc_10, valid_rnorm_k, -1)
    dc_14 = tiles.addcmul_(dc_14, dc_13, valid_rnorm_k, -1)
    del valid_rnorm_k
    db_22 = tiles.addcmul_(valid * db_7, valid, db_17, -1)
    del db_17, db_7
    dk_11 = tiles.addcmul_(-dk_8 - dk_10, valid_theta_2, dtheta_2)
    dk_11 = tiles.addcmul_(dk_11, valid_theta_2, dtheta_3)
    dk_11 = tiles.addcmul_(dk_11, valid_theta_2, dtheta_4)
    del dk_10, dk_8, dtheta_2, dtheta_3, dtheta_4
    dc = tiles.addcmul_(dc_2 * dc_14, dc_2, dtheta)
    del dc_14, dc_2, dtheta
    da_9 = k * dk_2
    da_10 = da_9.sum(3)
    del da_9
    da_11 = da_10 * rnorm_k_G_before * -1 * ln2
    da_12 = tiles.suffix_sum(da_11, 2, exclusive=True)
    del da_11
    dk_12 = k * dk_3
    dk_13 = dk_12.sum(3)
    del dk_12
    dk_14 = tiles.addcmul_(dc_4 * valid_theta_2, dc_6, valid_theta_2)
    dk_14 = tiles.addcmul_(dk_14, G_before_2, da_10, -1)
    dk_14 = tiles.addcmul_(tiles.addcmul_(dk_14, U_1, dk_13, -1), dc_10, valid_theta_2, -1)
    dk_14 = tiles.addcmul_(dk_14, dc_13, valid_theta_2, -1)
    del G_before_2, U_1, da_10, dc_10, dc_13, dc_4, dc_6, valid_theta_2
    dk_15 = tiles.addcmul_(dk_11 * -1 * rnorm_k_cubed, dk_14, rnorm_k_cubed, -1)
    del dk_11, dk_14, rnorm_k_cubed
    dk_16 = dk_6 + dk_6.permute(0, 1, 3, 2)
    del dk_6
    dk = tiles.addcmul_(dk_1[:, :, :, None] * dk_scaled, dlog2_G_after_3[:, :, :, None], dk_scaled_2)
    dk = tiles.addcmul_(dk, dk_15[:, :, :, None], k)
    dk = tiles.addcmul_(dk, rnorm_k_G_before[:, :, :, None], dk_2, -1)
    dk = tiles.addcmul_(dk, U_2[:, :, :, None], dk_3, -1)
    dk = tiles.addmm_(tiles.addmm_(dk, dk_16, k), dqk.mT, q)
    del U_2, dk_1, dk_15, dk_16, dk_2, dk_3, dk_scaled, dk_scaled_2, dlog2_G_after_3, dqk
    del rnorm_k_G_before
    db_23 = rnorm_k * dk_13
    del dk_13
    da_13 = tiles.addcmul_(
        rnorm_k[:, :, :, None] * -1 * da_8, db_23[:, :, :, None], G_before_valid_eta[:, :, None], -1
    )
    del G_before_valid_eta, da_8, rnorm_k
    da_14 = tiles.product_(da_13, G_before_ij, ln2)
    del da_13
    da_15 = torch.addcmul(da_14, valid_eta_scaled[:, :, None], db_16, value=-1)
    del da_14, db_16, valid_eta_scaled
    da_16 = tiles.segment_sum_grad(da_15, exclusive=True)
    del da_15
    da_17 = dlog2_G_C_3 + da_3 + da_1 + da_7 + da_12 + da_16
    del da_1, da_12, da_16, da_3, da_7, dlog2_G_C_3
    da = tiles.product(alpha, da_17, valid_scaled, -1)
    del alpha, da_17
    db_24 = db_23 * -1
    del db_23
    db_25 = (db_24[..., None, :] @ G_before_ij).squeeze(-2)
    del G_before_ij, db_24
    db_26 = db_12 + db_25
    del db_12, db_25
    db_27 = db_26 * valid_eta_G_before
    del db_26, valid_eta_G_before
    db_28 = db_27 * ln2
    db_29 = torch.addcmul(db_28, db_9[:, :, None], dM_before_1)
    del dM_before_1, db_28, db_9
    db_30 = tiles.suffix_sum(db_29, 2, exclusive=True)
    del db_29
    db_31 = dlog2_G_C_4 + db_10 + db_21 + db_30
    del db_10, db_21, db_30, dlog2_G_C_4
    db_32 = tiles.product(sigmoid_b_scaled, db_31, valid_scaled)
    del db_31, sigmoid_b_scaled, valid_scaled
    db = tiles.addcmul_(torch.addcmul(db_32, db_2, db_22), db_1, db_27)
    db = tiles.addcmul_(db, db_2, deta)
    del db_1, db_2, db_22, db_27, db_32, deta
    return (dq, dk, dv, da, db, dc), (dM_end, dS_end)


chunked_backward.unread = (2,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    k_scaled = (rnorm_k * -1)[:, :, None] * k
    eta = torch.sigmoid(b_)
    theta = torch.sigmoid(c)
    alpha = torch.sigmoid(a_)
    S_new_1 = -alpha + 1
    del alpha
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    del rnorm_q
    rnorm_k_theta = rnorm_k * theta
    del rnorm_k, theta
    k_scaled_2 = rnorm_k_theta[:, :, None] * k
    del rnorm_k_theta
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        k_scaled_c,
        v_c,
        eta_c,
        k_scaled_2_c,
        S_new_1_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled,
            v,
            eta,
            k_scaled_2,
            S_new_1[:, :, None, None],
            q_,
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
        k_scaled_S = (k_scaled_c[..., None, :] @ S).squeeze(-2)
        M_new_1 = v_c + k_scaled_S
        M_scaled = eta_c[:, None, None] * M
        M_new_2 = k_scaled_2_c[:, :, None] * M_new_1[:, None]
        S_new = scan.scale(S, S_new_1_c, own, S_rows if keep else None)
        S_new = S_new + M_scaled + M_new_2
        o = (q__c[..., None, :] @ S_new).squeeze(-2)
        M_new = M_scaled + M_new_2
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
    del S_new_1, eta, k_scaled, k_scaled_2, q_
    return (o,), (M_end, S_end), (M, S) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    k_scaled = (rnorm_k * -1)[:, :, None] * k
    eta = torch.sigmoid(b_)
    theta = torch.sigmoid(c)
    alpha = torch.sigmoid(a_)
    S_new_1 = -alpha + 1
    del alpha
    rnorm_k_theta = rnorm_k * theta
    del rnorm_k, theta
    k_scaled_2 = rnorm_k_theta[:, :, None] * k
    del rnorm_k_theta
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        k_scaled_c,
        v_c,
        eta_c,
        k_scaled_2_c,
        S_new_1_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled,
            v,
            eta,
            k_scaled_2,
            S_new_1[:, :, None, None],
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
        k_scaled_S = (k_scaled_c[..., None, :] @ S).squeeze(-2)
        M_new_1 = v_c + k_scaled_S
        M_scaled = eta_c[:, None, None] * M
        M_new_2 = k_scaled_2_c[:, :, None] * M_new_1[:, None]
        M_new = M_scaled + M_new_2
        S_new = scan.scale(S, S_new_1_c, own, S_rows if keep else None)
        S_new = S_new + M_scaled + M_new_2
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
    del S_new_1, eta, k_scaled, k_scaled_2
    return (), (M_end, S_end), (M, S) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, c) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (M, S) = kept
    (do,) = douts
    H = h0[0].shape[1]
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    k_scaled = (rnorm_k * -1)[:, :, None] * k
    k_scaled_S = (k_scaled[..., None, :] @ S).squeeze(-2)
    del k_scaled
    dq_1 = v + k_scaled_S
    del k_scaled_S
    eta = torch.sigmoid(b_)
    theta = torch.sigmoid(c)
    alpha = torch.sigmoid(a_)
    da_1 = -alpha + 1
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    dc_1 = -theta + 1
    db_1 = -eta + 1
    rnorm_k_theta = rnorm_k * theta
    dS_before_1 = rnorm_k * rnorm_k_theta
    dq_2 = (rnorm_k_theta[:, :, None] * k)[:, :, :, None] * dq_1[:, :, None]
    dq_3 = torch.addcmul(dq_2, eta[:, :, None, None], M)
    dq_3 = tiles.addcmul_(dq_3, da_1[:, :, None, None], S)
    del dq_2
    dq_ = (do[..., None, :] @ dq_3.mT).squeeze(-2)
    del dq_3
    dM_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    q_dq = q * dq_
    drnorm_q = q_dq.sum(2)
    del q_dq
    dnorm2_q_eps = tiles.product(rnorm_q, rnorm_q, rnorm_q, drnorm_q, -0.5)
    del drnorm_q
    dq = tiles.addcmul_(rnorm_q[:, :, None] * dq_, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_, rnorm_q
    k_scaled_2 = dS_before_1[:, :, None] * k
    del dS_before_1
    dS_before_2_rows = scan.Rows(steps, H, True)
    dM_before_2_rows = scan.Rows(steps, H, True)
    dv_2_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    for n, (
        dM_before_1_c,
        k_c,
        eta_c,
        da_1_c,
        k_scaled_2_c,
    ) in scan.each(
        steps,
        H,
        (
            dM_before_1,
            k,
            eta,
            da_1[:, :, None, None],
            k_scaled_2[:, :, :, None],
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dM_before_1_c
        dM_before_2 = dM + dS + dM_before_1_c
        dv_1 = k_c[:, :, None] * dM_before_2
        dv_2 = torch.sum(dv_1, 1, out=dv_2_rows.room(n))
        dM_before = eta_c[:, None, None] * dM_before_2
        dS_before = tiles.addcmul_(da_1_c * dS_before_2, k_scaled_2_c, dv_2[:, None], -1)
        dS_before_2_rows.put(dS_before_2)
        dM_before_2_rows.put(dM_before_2)
        dv_2_rows.put(dv_2)
        dM, dS = dM_before, dS_before
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    dM_before_2 = dM_before_2_rows.joined()
    dv_2 = dv_2_rows.joined()
    del dS_before_2_rows
    del dM_before_2_rows
    del dv_2_rows
    del dM_before_1, k_scaled_2
    da_2 = S * dS_before_2
    del dS_before_2
    da_3 = da_2.sum(2)
    del da_2
    da_4 = da_3.sum(2)
    del da_3
    da = tiles.product(alpha, da_1, da_4, -1)
    del alpha, da_1, da_4
    dk_1 = dq_1[:, :, None] * dM_before_2
    dk_2 = dk_1.sum(3)
    del dk_1
    dc_2 = dq_1 * dv_2
    del dq_1
    dc_3 = dc_2.sum(2)
    del dc_2
    dv = rnorm_k_theta[:, :, None] * dv_2
    del dv_2
    dc = tiles.product(dc_3, dc_1, rnorm_k_theta)
    del dc_1
    deta_1 = M * dM_before_2
    del dM_before_2
    deta_2 = deta_1.sum(2)
    del deta_1
    deta = deta_2.sum(2)
    del deta_2
    db = tiles.product(eta, deta, db_1)
    del db_1, deta, eta
    dk_scaled = (dv[..., None, :] @ S.mT).squeeze(-2)
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(2)
    del k_dk_scaled
    drnorm_k = tiles.addcmul_(-k_dk_scaled_sum, theta, dc_3)
    del dc_3, k_dk_scaled_sum, theta
    dnorm2_k_eps = tiles.product(rnorm_k, rnorm_k, rnorm_k, drnorm_k, -0.5)
    del drnorm_k
    dk = tiles.addcmul_(rnorm_k_theta[:, :, None] * dk_2, dnorm2_k_eps[:, :, None], k, 2)
    dk = tiles.addcmul_(dk, rnorm_k[:, :, None], dk_scaled, -1)
    del dk_2, dk_scaled, dnorm2_k_eps, rnorm_k, rnorm_k_theta
    return (dq, dk, dv, da, db, dc), (dM_end, dS_end)
