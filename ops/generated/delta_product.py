"""delta_product: generated from its spec by rnnc; do not edit.

S[t] = S[t-1]
for i in n:
    S[t] <- S[t] + beta[i] * u @ (v[i] - S[t].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = 2 * sigmoid(b)
  u = unit(k[i])

In a chunk of C tokens with the incoming state S_in:
  w = beta[i] * u,  f = -u
  q_ = unit(q)
  one row m for each of the n micro-steps of a token, t(m) its token
  P[m,l] = f[m]^T w[l],  l < m
  U = (I - P)^-1 (v + f S_in)
  A[i,l] = q_[i]^T w[l],  t(l) <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "delta_product"
SPEC_HASH = "78201026a33018adf7a7cd20551413527533c29d247093336afaa4a02ec6db3c"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("b", ("n",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    n_ = k.shape[3]
    H = h0[0].shape[1]
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
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_k_rows = q @ k_rows.mT
    S_new_1 = valid_rows * sigmoid_b_rows
    S_new_2 = rnorm_k_rows * S_new_1
    del S_new_1
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    k_rows_scaled = S_new_2[:, :, :, None] * k_rows
    del S_new_2
    P = tiles.product(k_rows_k_rows, (rnorm_k_rows * -2)[:, :, :, None], P_2[:, :, None])
    q_k_rows_scaled = tiles.product(q_k_rows, (rnorm_q * 2)[:, :, :, None], P_2[:, :, None])
    del P_2
    A = tiles.mask_tokens(q_k_rows_scaled)
    del q_k_rows_scaled
    inv = tiles.inverse(P)
    del P
    k_rows_scaled_2 = rnorm_k_rows[:, :, :, None] * k_rows
    del k_rows, rnorm_k_rows
    q_ = tiles.scale_(q, rnorm_q[:, :, :, None])
    del rnorm_q
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
        q__c,
        A_c,
        k_rows_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v_rows,
            k_rows_scaled_2,
            inv,
            q_,
            A,
            k_rows_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_rows_c, k_rows_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = scan.addmm(torch.bmm(q__c, S, out=o_rows.room(n)), A_c, U)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del A, k_rows_scaled, k_rows_scaled_2, q_, v_rows
    return (o,), (S_end,), (S, k_rows_k_rows, q_k_rows, inv, U) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    n_ = k.shape[3]
    H = h0[0].shape[1]
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
    S_new_1 = valid_rows * sigmoid_b_rows
    S_new_2 = rnorm_k_rows * S_new_1
    del S_new_1
    P_1 = valid_rows * sigmoid_b_rows
    del sigmoid_b_rows, valid_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    k_rows_scaled = S_new_2[:, :, :, None] * k_rows
    del S_new_2
    P = tiles.product(k_rows_k_rows, (rnorm_k_rows * -2)[:, :, :, None], P_2[:, :, None])
    del P_2
    inv = tiles.inverse(P)
    del P
    k_rows_scaled_2 = rnorm_k_rows[:, :, :, None] * k_rows
    del k_rows, rnorm_k_rows
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_rows_c,
        k_rows_scaled_2_c,
        inv_c,
        k_rows_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v_rows,
            k_rows_scaled_2,
            inv,
            k_rows_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_rows_c, k_rows_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del k_rows_scaled, k_rows_scaled_2, v_rows
    return (), (S_end,), (S, k_rows_k_rows, q_k_rows, inv, U) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, k_rows_k_rows, q_k_rows, inv, U) = kept
    (do,) = douts
    n_ = k.shape[3]
    H = h0[0].shape[1]
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
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    dqS = rnorm_q[:, :, :, None] * do
    db_1 = -sigmoid_b_rows + 1
    k_rows_scaled = rnorm_k_rows[:, :, :, None] * k_rows
    dk_1 = valid_rows * sigmoid_b_rows
    dk_2 = rnorm_k_rows * dk_1
    P_1 = valid_rows * sigmoid_b_rows
    P_2 = rnorm_k_rows * P_1
    del P_1
    db_2 = valid_rows * rnorm_k_rows
    del valid_rows
    dk_3 = rnorm_k_rows * rnorm_k_rows
    rnorm_k_rows_cubed = rnorm_k_rows * dk_3
    del dk_3
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    q_k_rows_scaled = tiles.product(q_k_rows, (rnorm_q * 2)[:, :, :, None], P_2[:, :, None])
    dU_1 = tiles.mask_tokens(q_k_rows_scaled)
    del q_k_rows_scaled
    dU = dU_1.mT @ do
    del dU_1
    do_U = do @ U.mT
    dq_k_rows_scaled = tiles.mask_tokens(do_U)
    del do_U
    dq_1 = q_k_rows * dq_k_rows_scaled
    db_3 = rnorm_q[:, :, :, None] * dq_1
    db_4 = db_3.sum(2)
    del db_3
    dq_2 = tiles.scale_(dq_1, P_2[:, :, None])
    del dq_1
    dq_3 = dq_2.sum(3)
    del dq_2
    dq_4 = P_2[:, :, None] * dq_k_rows_scaled
    dk_4 = rnorm_q[:, :, :, None] * dq_k_rows_scaled
    del dq_k_rows_scaled
    dk_5 = dk_4.mT @ q
    del dk_4
    dq_5 = tiles.scale_(dq_4, rnorm_q[:, :, :, None])
    del dq_4
    k_rows_scaled_2 = dk_2[:, :, :, None] * k_rows
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dv_2_rows = scan.Rows(steps, H, True)
    dk_6_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        k_rows_scaled_2_c,
        dU_c,
        inv_c,
        U_c,
        do_c,
        S_c,
        q_c,
        dqS_c,
        k_rows_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            k_rows_scaled_2,
            dU,
            inv.mT,
            U,
            do,
            S.mT,
            q.mT,
            dqS,
            k_rows_scaled.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_1 = torch.baddbmm(dU_c, k_rows_scaled_2_c, dS, alpha=2)
        dv_2 = torch.bmm(inv_c, dv_1, out=dv_2_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c, out=do_S_rows.room(n))
        dk_6 = torch.bmm(dv_2, S_c, out=dk_6_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own), q_c, dqS_c)
        dS_before = scan.addmm(dS_before, k_rows_scaled_c, dv_2, -1)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dv_2_rows.put(dv_2)
        dk_6_rows.put(dk_6)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dv_2 = dv_2_rows.joined()
    dk_6 = dk_6_rows.joined()
    del do_S_rows
    del U_dS_rows
    del dv_2_rows
    del dk_6_rows
    del dU, dqS, k_rows_scaled, k_rows_scaled_2
    k_rows_U_dS = k_rows * U_dS
    k_rows_U_dS_sum = k_rows_U_dS.sum(3)
    del k_rows_U_dS
    db_5 = tiles.product(db_1, k_rows_U_dS_sum, dk_2)
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    dq_6 = torch.add(q_do_S_sum, dq_3, alpha=2)
    del dq_3, q_do_S_sum
    dq_7 = rnorm_q_cubed * dq_6
    del dq_6, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q[:, :, :, None] * do_S, dq_7[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dq_5, k_rows, 2)
    del do_S, dq_5, dq_7, rnorm_q
    dk_7 = dv_2 @ U.mT
    dk_8 = dk_7.tril(-1)
    del dk_7
    db_6 = k_rows_k_rows * dk_8
    dk_9 = P_2[:, :, None] * db_6
    dk_10 = dk_9.sum(3)
    del dk_9
    db_7 = tiles.scale_(db_6, rnorm_k_rows[:, :, :, None])
    del db_6
    db_8 = db_7.sum(2)
    del db_7
    dk_11 = P_2[:, :, None] * dk_8
    del P_2
    dk_12 = rnorm_k_rows[:, :, :, None] * dk_8
    del dk_8
    db_9 = tiles.addcmul_(db_4 * 2 * db_2, db_8, db_2, -2)
    del db_2
    db_10 = tiles.product(sigmoid_b_rows, db_1, db_9)
    del db_1, db_9, sigmoid_b_rows
    dv = dv_2.unflatten(2, (-1, n_))
    del dv_2
    dk_13 = tiles.addcmul_(-2 * dk_10, k_rows_U_dS_sum, dk_1, 2)
    del dk_10, k_rows_U_dS_sum
    db_11 = torch.add(db_10, db_5, alpha=2)
    del db_10, db_5
    db = db_11.unflatten(2, (-1, n_))
    del db_11
    dk_14 = k_rows * dk_6
    dk_15 = dk_14.sum(3)
    del dk_14
    dk_16 = tiles.addcmul_(tiles.addcmul_(-dk_15, db_4, dk_1, 2), db_8, dk_1, -2)
    del db_4, db_8, dk_1, dk_15
    dk_17 = tiles.addcmul_(dk_13 * -1 * rnorm_k_rows_cubed, dk_16, rnorm_k_rows_cubed, -1)
    del dk_13, dk_16, rnorm_k_rows_cubed
    dk_18 = tiles.scale_(dk_11, rnorm_k_rows[:, :, :, None])
    del dk_11
    dk_19 = torch.addcmul(-2 * dk_18.permute(0, 1, 3, 2), dk_2[:, :, None], dk_12, value=-2)
    del dk_12, dk_18
    dk_20 = tiles.addcmul_(dk_17[:, :, :, None] * k_rows, dk_2[:, :, :, None], dk_5, 2)
    dk_20 = tiles.addcmul_(dk_20, dk_2[:, :, :, None], U_dS, 2)
    dk_20 = tiles.addcmul_(dk_20, rnorm_k_rows[:, :, :, None], dk_6, -1)
    dk_20 = tiles.addmm_(dk_20, dk_19.mT, k_rows)
    del U_dS, dk_17, dk_19, dk_2, dk_5, dk_6, k_rows, rnorm_k_rows
    dk = dk_20.unflatten(2, (-1, n_))
    del dk_20
    return (dq, dk, dv, db), (dS_end,)


chunked_backward.unread = (2,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    del rnorm_q
    sigmoid_b_rnorm_k = sigmoid_b * rnorm_k
    sigmoid_b_rnorm_k_2 = sigmoid_b * rnorm_k
    del sigmoid_b
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
        v_c,
        k_scaled_2_c,
        inv_c,
        k_scaled_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_2,
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
        U_1 = torch.baddbmm(v_c, k_scaled_2_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del k_scaled, k_scaled_2, q_
    return (o,), (S_end,), (S, kk, inv, U) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    H = h0[0].shape[1]
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
        v_c,
        k_scaled_2_c,
        inv_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_scaled_2,
            inv,
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
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del k_scaled, k_scaled_2
    return (), (S_end,), (S, kk, inv, U) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, kk, inv, U) = kept
    (do,) = douts
    H = h0[0].shape[1]
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
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    db_1 = -sigmoid_b + 1
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
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    k_scaled_2 = sigmoid_b_rnorm_k_2[:, :, :, None] * k
    dk_scaled_U_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dq_1 = torch.add(S, k_scaled_2.mT @ U, alpha=2)
    del k_scaled_2
    dq_ = (do[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    q_dq = q * dq_
    drnorm_q = q_dq.sum(2)
    del q_dq
    inv_scaled = sigmoid_b_rnorm_k_2[:, :, :, None] * inv
    del sigmoid_b_rnorm_k_2
    dq_2 = rnorm_q_cubed * drnorm_q
    del drnorm_q, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q[:, :, None] * dq_, dq_2[:, :, None], q, -1)
    del dq_, dq_2, rnorm_q
    kS_rows = scan.Rows(steps, H, True)
    dk_scaled_U_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_1_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dk_scaled_U_1_c,
        k_c,
        inv_scaled_c,
        S_c,
        S_c_2,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            dk_scaled_U_1,
            k,
            inv_scaled.mT,
            S,
            S.mT,
            k_scaled.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dk_scaled_U = torch.add(2 * dS, dk_scaled_U_1_c, alpha=2)
        k_dk_scaled_U = torch.bmm(k_c, dk_scaled_U)
        dv = torch.bmm(inv_scaled_c, k_dk_scaled_U, out=dv_rows.room(n))
        kS = torch.bmm(k_c, S_c, out=kS_rows.room(n))
        dk_1 = torch.bmm(dv, S_c_2, out=dk_1_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own) + dk_scaled_U_1_c, k_scaled_c, dv, -1)
        kS_rows.put(kS)
        dk_scaled_U_rows.put(dk_scaled_U)
        dv_rows.put(dv)
        dk_1_rows.put(dk_1)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    kS = kS_rows.joined()
    dk_scaled_U = dk_scaled_U_rows.joined()
    dv = dv_rows.joined()
    dk_1 = dk_1_rows.joined()
    del kS_rows
    del dk_scaled_U_rows
    del dv_rows
    del dk_1_rows
    del dk_scaled_U_1, inv_scaled, k_scaled
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
    dk_6 = kS * dv
    del kS
    dk_7 = dk_6.sum(3)
    del dk_6
    dk_8 = tiles.addcmul_(-dk_7, sigmoid_b, db_4, -2)
    del dk_7
    k_dk_scaled = k * dk_scaled
    k_dk_scaled_sum = k_dk_scaled.sum(3)
    del k_dk_scaled
    dk_9 = tiles.addcmul_(-2 * dk_3, sigmoid_b, k_dk_scaled_sum)
    del dk_3, sigmoid_b
    db = tiles.addcmul_(k_dk_scaled_sum * db_2, db_4, db_2, -2)
    del db_2, db_4, k_dk_scaled_sum
    dk_10 = tiles.addcmul_(dk_8 * -1 * rnorm_k_cubed, dk_9, rnorm_k_cubed, -1)
    del dk_8, dk_9, rnorm_k_cubed
    dk = tiles.addcmul_(w_scale[:, :, :, None] * dk_scaled, dk_10[:, :, :, None], k)
    dk = tiles.addcmul_(dk, w_scale[:, :, :, None], dk_5, -2)
    dk = tiles.addcmul_(dk, rnorm_k[:, :, :, None], dk_4, -2)
    dk = tiles.addcmul_(dk, rnorm_k[:, :, :, None], dk_1, -1)
    del dk_1, dk_10, dk_4, dk_5, dk_scaled, rnorm_k, w_scale
    return (dq, dk, dv, db), (dS_end,)


recurrent_backward.unread = (2,)
