"""delta_net_signed: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + beta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = 2 * sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  w = beta * u,  f = -u
  q_ = unit(q)
  P[i,j] = f[i]^T w[j],  j < i
  U = (I - P)^-1 (v + f S_in)
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "delta_net_signed"
SPEC_HASH = "7ea1704d97fe300aca557aabbd6bf0b5c82460b80505ac05055686c61be91d6b"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("b", ()))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
    sigmoid_b = torch.sigmoid(b_)
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
    valid_sigmoid_b = valid * sigmoid_b
    w_scale = rnorm_k * valid_sigmoid_b
    del valid_sigmoid_b
    valid_sigmoid_b_2 = valid * sigmoid_b
    del sigmoid_b
    w_scale_2 = rnorm_k * valid_sigmoid_b_2
    del valid_sigmoid_b_2
    k_scaled = w_scale[:, :, :, None] * k
    del w_scale
    P = tiles.product(kk, (rnorm_k * -2)[:, :, :, None], w_scale_2[:, :, None])
    qk_scaled = tiles.product(qk, (rnorm_q * 2)[:, :, :, None], w_scale_2[:, :, None])
    del w_scale_2
    A = qk_scaled.tril(0)
    del qk_scaled
    inv = tiles.inverse(P)
    del P
    u = tiles.scale_(k, rnorm_k[:, :, :, None])
    del rnorm_k
    q_ = tiles.scale_(q, rnorm_q[:, :, :, None])
    del rnorm_q
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        u_c,
        inv_c,
        q__c,
        A_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            u,
            inv,
            q_,
            A,
            k_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, u_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = scan.addmm(torch.bmm(q__c, S, out=o_rows.room(n)), A_c, U)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del A, k_scaled, q_, u
    return (o,), (S_end,), (S, kk, qk, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    kk = k @ k.mT
    qk = q @ k.mT
    valid_sigmoid_b = valid * sigmoid_b
    w_scale = rnorm_k * valid_sigmoid_b
    del valid_sigmoid_b
    valid_sigmoid_b_2 = valid * sigmoid_b
    del sigmoid_b
    w_scale_2 = rnorm_k * valid_sigmoid_b_2
    del valid_sigmoid_b_2
    k_scaled = w_scale[:, :, :, None] * k
    del w_scale
    P = tiles.product(kk, (rnorm_k * -2)[:, :, :, None], w_scale_2[:, :, None])
    del w_scale_2
    inv = tiles.inverse(P)
    del P
    u = rnorm_k[:, :, :, None] * k
    del rnorm_k
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, u_c, inv_c, k_scaled_c) in scan.each(steps, H, (v, u, inv, k_scaled.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, u_c, S, alpha=-1)
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
    del k_scaled, u
    return (), (S_end,), (S, kk, qk, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, kk, qk, inv, U) = kept
    (do,) = douts
    H = h0[0].shape[1]
    sigmoid_b = torch.sigmoid(b_)
    norm2_k = tiles.sum_squares(k, 3)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    u = rnorm_k[:, :, :, None] * k
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    dqS = rnorm_q[:, :, :, None] * do
    db_1 = -sigmoid_b + 1
    valid_sigmoid_b = valid * sigmoid_b
    w_scale = rnorm_k * valid_sigmoid_b
    valid_sigmoid_b_2 = valid * sigmoid_b
    w_scale_2 = rnorm_k * valid_sigmoid_b_2
    del valid_sigmoid_b_2
    valid_rnorm_k = valid * rnorm_k
    rnorm_k_squared = rnorm_k * rnorm_k
    rnorm_k_cubed = rnorm_k * rnorm_k_squared
    del rnorm_k_squared
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    qk_scaled = tiles.product(qk, (rnorm_q * 2)[:, :, :, None], w_scale_2[:, :, None])
    qk_scaled_lower = qk_scaled.tril(0)
    del qk_scaled
    dqk_scaled_lower = do @ U.mT
    dqk_scaled = dqk_scaled_lower.tril(0)
    del dqk_scaled_lower
    qk_dqk_scaled = qk * dqk_scaled
    db_2 = rnorm_q[:, :, :, None] * qk_dqk_scaled
    db_3 = db_2.sum(2)
    del db_2
    dq_1 = tiles.scale_(qk_dqk_scaled, w_scale_2[:, :, None])
    del qk_dqk_scaled
    dq_2 = dq_1.sum(3)
    del dq_1
    dqk_scaled_scaled = w_scale_2[:, :, None] * dqk_scaled
    dqk_scaled_scaled_2 = rnorm_q[:, :, :, None] * dqk_scaled
    del dqk_scaled
    dk_1 = tiles.scale_(dqk_scaled_scaled_2, w_scale[:, :, None])
    del dqk_scaled_scaled_2
    dq_3 = tiles.scale_(dqk_scaled_scaled, rnorm_q[:, :, :, None])
    del dqk_scaled_scaled
    k_scaled = w_scale[:, :, :, None] * k
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        k_scaled_c,
        qk_scaled_lower_c,
        do_c,
        inv_c,
        U_c,
        S_c,
        q_c,
        dqS_c,
        u_c,
    ) in scan.each(
        steps,
        H,
        (
            k_scaled,
            qk_scaled_lower.mT,
            do,
            inv.mT,
            U,
            S.mT,
            q.mT,
            dqS,
            u.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_1 = scan.addmm(torch.bmm(qk_scaled_lower_c, do_c), k_scaled_c, dS, 2)
        dv = torch.bmm(inv_c, dv_1, out=dv_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c, out=do_S_rows.room(n))
        dk_2 = torch.bmm(dv, S_c, out=dk_2_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own), q_c, dqS_c)
        dS_before = scan.addmm(dS_before, u_c, dv, -1)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dv_rows.put(dv)
        dk_2_rows.put(dk_2)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dv = dv_rows.joined()
    dk_2 = dk_2_rows.joined()
    del do_S_rows
    del U_dS_rows
    del dv_rows
    del dk_2_rows
    del dqS, k_scaled, qk_scaled_lower, u
    k_U_dS = k * U_dS
    k_U_dS_sum = k_U_dS.sum(3)
    del k_U_dS
    db_4 = tiles.product(db_1, k_U_dS_sum, w_scale)
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    dq_4 = torch.add(q_do_S_sum, dq_2, alpha=2)
    del dq_2, q_do_S_sum
    dq_5 = rnorm_q_cubed * dq_4
    del dq_4, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q[:, :, :, None] * do_S, dq_5[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dq_3, k, 2)
    del do_S, dq_3, dq_5, rnorm_q
    dk_3 = dv @ U.mT
    dk_4 = dk_3.tril(-1)
    del dk_3
    db_5 = kk * dk_4
    dk_5 = w_scale_2[:, :, None] * db_5
    dk_6 = dk_5.sum(3)
    del dk_5
    db_6 = tiles.scale_(db_5, rnorm_k[:, :, :, None])
    del db_5
    db_7 = db_6.sum(2)
    del db_6
    dk_7 = w_scale_2[:, :, None] * dk_4
    del w_scale_2
    dk_8 = rnorm_k[:, :, :, None] * dk_4
    del dk_4
    db_8 = tiles.addcmul_(db_3 * 2 * valid_rnorm_k, db_7, valid_rnorm_k, -2)
    del valid_rnorm_k
    db_9 = tiles.product(sigmoid_b, db_1, db_8)
    del db_1, db_8, sigmoid_b
    dk_9 = tiles.addcmul_(-2 * dk_6, k_U_dS_sum, valid_sigmoid_b, 2)
    del dk_6, k_U_dS_sum
    db = torch.add(db_9, db_4, alpha=2)
    del db_4, db_9
    dk_10 = tiles.scale_(dk_7, rnorm_k[:, :, :, None])
    del dk_7
    dk_11 = k * dk_2
    dk_12 = dk_11.sum(3)
    del dk_11
    dk_13 = tiles.addcmul_(-dk_12, db_3, valid_sigmoid_b, 2)
    dk_13 = tiles.addcmul_(dk_13, db_7, valid_sigmoid_b, -2)
    del db_3, db_7, dk_12, valid_sigmoid_b
    dk_14 = tiles.addcmul_(dk_9 * -1 * rnorm_k_cubed, dk_13, rnorm_k_cubed, -1)
    del dk_13, dk_9, rnorm_k_cubed
    dk_15 = torch.addcmul(-2 * dk_10.permute(0, 1, 3, 2), w_scale[:, :, None], dk_8, value=-2)
    del dk_10, dk_8
    dk = tiles.addcmul_(dk_14[:, :, :, None] * k, w_scale[:, :, :, None], U_dS, 2)
    dk = tiles.addcmul_(dk, rnorm_k[:, :, :, None], dk_2, -1)
    dk = tiles.addmm_(tiles.addmm_(dk, dk_15.mT, k), dk_1.mT, q, 2)
    del U_dS, dk_1, dk_14, dk_15, dk_2, rnorm_k, w_scale
    return (dq, dk, dv, db), (dS_end,)


chunked_backward.unread = (2,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    f = (rnorm_k * -1)[:, :, None] * k
    sigmoid_b = torch.sigmoid(b_)
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    del rnorm_q
    w_scale = rnorm_k * sigmoid_b
    del rnorm_k, sigmoid_b
    k_scaled = w_scale[:, :, None] * k
    del w_scale
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (f_c, v_c, k_scaled_c, q__c) in scan.each(steps, H, (f, v, k_scaled[:, :, :, None], q_)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_c + fS
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del f, k_scaled, q_
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    H = h0[0].shape[1]
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    f = (rnorm_k * -1)[:, :, None] * k
    sigmoid_b = torch.sigmoid(b_)
    w_scale = rnorm_k * sigmoid_b
    del rnorm_k, sigmoid_b
    k_scaled = w_scale[:, :, None] * k
    del w_scale
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (f_c, v_c, k_scaled_c) in scan.each(steps, H, (f, v, k_scaled[:, :, :, None])):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_c + fS
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, k_scaled_c, u_[:, None], 2)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del f, k_scaled
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    norm2_k = tiles.sum_squares(k, 2)
    norm2_k_eps = norm2_k + 1e-06
    del norm2_k
    rnorm_k = torch.rsqrt(norm2_k_eps)
    del norm2_k_eps
    f = (rnorm_k * -1)[:, :, None] * k
    fS = (f[..., None, :] @ S).squeeze(-2)
    del f
    u_ = v + fS
    del fS
    sigmoid_b = torch.sigmoid(b_)
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    db_1 = -sigmoid_b + 1
    w_scale = rnorm_k * sigmoid_b
    rnorm_k_w_scale = rnorm_k * w_scale
    dq_1 = (w_scale[:, :, None] * k)[:, :, :, None] * u_[:, :, None]
    dq_2 = torch.add(S, dq_1, alpha=2)
    del dq_1
    dq_ = (do[..., None, :] @ dq_2.mT).squeeze(-2)
    del dq_2
    dS_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    q_dq = q * dq_
    drnorm_q = q_dq.sum(2)
    del q_dq
    dnorm2_q_eps = tiles.product(rnorm_q, rnorm_q, rnorm_q, drnorm_q, -0.5)
    del drnorm_q
    dq = tiles.addcmul_(rnorm_q[:, :, None] * dq_, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_, rnorm_q
    k_scaled = rnorm_k_w_scale[:, :, None] * k
    del rnorm_k_w_scale
    du_1_rows = scan.Rows(steps, H, True)
    du_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dS_before_1_c,
        k_c,
        k_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            k,
            k_scaled[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        du_1 = torch.add(2 * dS, dS_before_1_c, alpha=2)
        du_2 = k_c[:, :, None] * du_1
        du_3 = torch.sum(du_2, 1, out=du_3_rows.room(n))
        dS_before = tiles.addcmul_(scan.scale(dS, 1, own) + dS_before_1_c, k_scaled_c, du_3[:, None], -1)
        du_1_rows.put(du_1)
        du_3_rows.put(du_3)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    du_1 = du_1_rows.joined()
    du_3 = du_3_rows.joined()
    del du_1_rows
    del du_3_rows
    del dS_before_1, k_scaled
    dk_1 = u_[:, :, None] * du_1
    del du_1
    dk_2 = dk_1.sum(3)
    del dk_1
    db_2 = u_ * du_3
    del u_
    db_3 = db_2.sum(2)
    del db_2
    dv = w_scale[:, :, None] * du_3
    del du_3
    db = tiles.product(db_3, db_1, w_scale)
    del db_1
    df = (dv[..., None, :] @ S.mT).squeeze(-2)
    k_df = k * df
    k_df_sum = k_df.sum(2)
    del k_df
    drnorm_k = tiles.addcmul_(-k_df_sum, sigmoid_b, db_3)
    del db_3, k_df_sum, sigmoid_b
    dnorm2_k_eps = tiles.product(rnorm_k, rnorm_k, rnorm_k, drnorm_k, -0.5)
    del drnorm_k
    dk = tiles.addcmul_(w_scale[:, :, None] * dk_2, dnorm2_k_eps[:, :, None], k, 2)
    dk = tiles.addcmul_(dk, rnorm_k[:, :, None], df, -1)
    del df, dk_2, dnorm2_k_eps, rnorm_k, w_scale
    return (dq, dk, dv, db), (dS_end,)
