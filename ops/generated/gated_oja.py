"""gated_oja: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + beta * (k - S[t-1] @ (alpha * w)) @ w.T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(logsigmoid(gv) * 0.0625)
  beta = sigmoid(b)
  w = unit(v)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w_ = beta * w,  v_ = k,  f = D f',  f' = -w
  q_ = K**-0.5 * unit(q)
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f'[i]^T (G[i]/G[j]) w_[j],  j < i
  U = (I - P)^-1 (v_ + (f' * G) S_in^T)
  B[i,j] = q_[i]^T U[j],  j <= i
  r = (B * G[i]/G[j]) w_ + G * (q_ S_in)
  S_out^T = G[C] * S_in^T + (w_ * G[C]/G)^T U
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "gated_oja"
SPEC_HASH = "5cba9d88070584af21edf3cf6fe2fb157d5a0410107c10978a95255b605faa9b"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("gv", ("V",)), ("b", ()))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, gv, b_) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    logsigmoid_gv = F.logsigmoid(gv)
    log2_D_1 = logsigmoid_gv * 0.0625
    del logsigmoid_gv
    beta = torch.sigmoid(b_)
    norm2_v = tiles.sum_squares(v, 3)
    norm2_v_eps = norm2_v + 1e-06
    del norm2_v
    rnorm_v = torch.rsqrt(norm2_v_eps)
    del norm2_v_eps
    w = rnorm_v[:, :, :, None] * v
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    log2_D_2 = log2_D_1 * tiles.LOG2E
    del log2_D_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_2, 0)
    del log2_D_2
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    vG = v * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    v_G_after = tiles.product_(G_after, v)
    del G_after
    valid_beta = valid * beta
    del beta
    w_scale = rnorm_v * valid_beta
    del valid_beta
    rnorm_q_scaled = rnorm_q * rsqrt_K
    w_ = tiles.scale_(v, w_scale[:, :, :, None])
    f = w * -1
    del w
    f1 = tiles.decay_factors(log2_D)
    P = tiles.decay_dot(f, w_, f1, strict=True)
    del f
    inv = tiles.inverse(P)
    del P
    vG_scaled = tiles.scale_(vG, rnorm_v[:, :, :, None])
    del rnorm_v, vG
    q_ = rnorm_q_scaled[:, :, :, None] * q
    del rnorm_q_scaled
    S_rows = scan.Rows(steps, H)
    G_qS_scaled_scaled_rows = scan.Rows(steps, H)
    U_2_rows = scan.Rows(steps, H)
    qU_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        q_c,
        rnorm_q_c,
        G_c,
        k_c,
        vG_scaled_c,
        inv_c,
        q__c,
        w_scale_c,
        G_C_c,
        v_G_after_c,
    ) in scan.each(
        steps,
        H,
        (
            q,
            rnorm_q,
            G,
            k,
            vG_scaled,
            inv,
            q_,
            w_scale,
            G_C[:, :, None],
            v_G_after,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        qS = torch.bmm(q_c, S)
        qS_scaled = qS * rsqrt_K
        qS_scaled_scaled = rnorm_q_c[:, :, None] * qS_scaled
        G_qS_scaled_scaled = G_c * qS_scaled_scaled
        U_1 = torch.baddbmm(k_c, vG_scaled_c, S.mT, alpha=-1)
        U_2 = torch.bmm(inv_c, U_1, out=U_2_rows.room(n))
        qU = torch.bmm(q__c, U_2.mT, out=qU_rows.room(n))
        U_scaled = w_scale_c[:, :, None] * U_2
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, U_scaled.mT, v_G_after_c)
        G_qS_scaled_scaled_rows.put(G_qS_scaled_scaled)
        if keep:
            U_2_rows.put(U_2)
        qU_rows.put(qU)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    G_qS_scaled_scaled = G_qS_scaled_scaled_rows.joined()
    qU = qU_rows.joined()
    if keep:
        S = S_rows.joined()
        U_2 = U_2_rows.joined()
    del S_rows
    del G_qS_scaled_scaled_rows
    del U_2_rows
    del qU_rows
    del G, G_C, q_, rnorm_q, vG_scaled, v_G_after, w_scale
    o_1 = tiles.decay_dot_rows(qU, w_, f1)
    del f1, log2_D, qU, w_
    o = G_qS_scaled_scaled + o_1
    del G_qS_scaled_scaled, o_1
    return (o,), (S_end,), (S, inv, U_2) if keep else None


chunked_forward.by_step = (1,)


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, gv, b_) = args
    H = h0[0].shape[1]
    logsigmoid_gv = F.logsigmoid(gv)
    log2_D_1 = logsigmoid_gv * 0.0625
    del logsigmoid_gv
    beta = torch.sigmoid(b_)
    norm2_v = tiles.sum_squares(v, 3)
    norm2_v_eps = norm2_v + 1e-06
    del norm2_v
    rnorm_v = torch.rsqrt(norm2_v_eps)
    del norm2_v_eps
    w = rnorm_v[:, :, :, None] * v
    log2_D_2 = log2_D_1 * tiles.LOG2E
    del log2_D_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_2, 0)
    del log2_D_2
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    vG = tiles.product_(G, v)
    del G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    v_G_after = tiles.product_(G_after, v)
    del G_after
    valid_beta = valid * beta
    del beta
    w_scale = rnorm_v * valid_beta
    del valid_beta
    w_ = w_scale[:, :, :, None] * v
    f = w * -1
    del w
    f1 = tiles.decay_factors(log2_D)
    P = tiles.decay_dot(f, w_, f1, strict=True)
    del f, f1, log2_D, w_
    inv = tiles.inverse(P)
    del P
    vG_scaled = rnorm_v[:, :, :, None] * vG
    inv_scaled = w_scale[:, :, :, None] * inv
    del w_scale
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        vG_c,
        k_c,
        rnorm_v_c,
        inv_c,
        vG_scaled_c,
        inv_scaled_c,
        G_C_c,
        v_G_after_c,
    ) in scan.each(
        steps,
        H,
        (
            vG,
            k,
            rnorm_v[:, :, :, None],
            inv,
            vG_scaled,
            inv_scaled,
            G_C[:, :, None],
            v_G_after,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        vG_S = torch.bmm(vG_c, S.mT)
        U_4 = torch.addcmul(k_c, rnorm_v_c, vG_S, value=-1)
        U = torch.bmm(inv_c, U_4, out=U_rows.room(n))
        U_1 = torch.baddbmm(k_c, vG_scaled_c, S.mT, alpha=-1)
        U_3 = torch.bmm(inv_scaled_c, U_1)
        S_new_2 = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new_2 = scan.addmm(S_new_2, U_3.mT, v_G_after_c)
        if keep:
            U_rows.put(U)
        S = S_new_2
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del G_C, inv_scaled, rnorm_v, vG, vG_scaled, v_G_after
    return (), (S_end,), (S, inv, U) if keep else None


chunked_states.by_step = (1,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, _, v, gv, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, inv, U) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    logsigmoid_gv = F.logsigmoid(gv)
    log2_D_1 = logsigmoid_gv * 0.0625
    del logsigmoid_gv
    beta = torch.sigmoid(b_)
    norm2_v = tiles.sum_squares(v, 3)
    norm2_v_eps = norm2_v + 1e-06
    del norm2_v
    rnorm_v = torch.rsqrt(norm2_v_eps)
    del norm2_v_eps
    w = rnorm_v[:, :, :, None] * v
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    log2_D_2 = log2_D_1 * tiles.LOG2E
    del log2_D_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_2, 0)
    del log2_D_2
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    vG = v * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    v_G_after = v * G_after
    ln2 = tiles.LN2
    log2e = tiles.LOG2E
    G_do = G * do
    db_1 = -beta + 1
    gv_scaled = gv * -1
    sigmoid_gv_scaled = tiles.apply_(torch.sigmoid_, gv_scaled)
    del gv_scaled
    valid_beta = valid * beta
    del beta
    w_scale = rnorm_v * valid_beta
    rnorm_v_squared = rnorm_v * rnorm_v
    rnorm_v_cubed = rnorm_v * rnorm_v_squared
    del rnorm_v_squared
    db_2 = db_1 * w_scale
    del db_1
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    rnorm_q_scaled = rnorm_q * rsqrt_K
    w_ = w_scale[:, :, :, None] * v
    f = w * -1
    G_do_scaled = rnorm_q[:, :, :, None] * G_do
    qU = q @ U.mT
    qU_scaled = rnorm_q_scaled[:, :, :, None] * qU
    f1 = tiles.decay_factors(log2_D)
    dqU_scaled = tiles.decay_dot(do, w_, f1)
    del log2_D
    dqU_scaled_scaled = rnorm_q[:, :, :, None] * dqU_scaled
    dU_1 = dqU_scaled_scaled.mT @ q
    del dqU_scaled_scaled
    dU_2 = dU_1 * rsqrt_K
    del dU_1
    _, dv_1, dlog2_D_1 = tiles.decay_dot_grads(qU_scaled, do, w_, f1)
    del qU_scaled
    qU_dqU_scaled = tiles.product_(qU, dqU_scaled)
    del qU
    qU_dqU_scaled_sum = qU_dqU_scaled.sum(3)
    del qU_dqU_scaled
    dqU_scaled_scaled_2 = rnorm_q_scaled[:, :, :, None] * dqU_scaled
    del dqU_scaled
    qS_rows = scan.Rows(steps, H, True)
    dU_scaled_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    G_do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dk_rows = scan.Rows(steps, H, True)
    inv_dU_S_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_G_after_c,
        w_scale_c,
        dU_2_c,
        inv_c,
        rnorm_v_c,
        S_c,
        U_c,
        q_c,
        G_do_c,
        S_c_2,
        G_C_c,
        q_c_2,
        G_do_scaled_c,
        vG_c,
    ) in scan.each(
        steps,
        H,
        (
            v_G_after,
            w_scale[:, :, :, None],
            dU_2,
            inv.mT,
            rnorm_v,
            S,
            U,
            q,
            G_do,
            S.mT,
            G_C[:, :, None],
            q.mT,
            G_do_scaled,
            vG,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dU_scaled = torch.bmm(v_G_after_c, dS.mT, out=dU_scaled_rows.room(n))
        dU = torch.addcmul(dU_2_c, w_scale_c, dU_scaled)
        dk = torch.bmm(inv_c, dU, out=dk_rows.room(n))
        inv_dU_scaled = rnorm_v_c[:, :, None] * dk
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 1, out=dG_C_rows.room(n))
        U_dS = torch.bmm(U_c, dS, out=U_dS_rows.room(n))
        qS = torch.bmm(q_c, S_c, out=qS_rows.room(n))
        G_do_S = torch.bmm(G_do_c, S_c_2, out=G_do_S_rows.room(n))
        inv_dU_S = torch.bmm(dk, S_c, out=inv_dU_S_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), q_c_2, G_do_scaled_c, rsqrt_K)
        dS_before = scan.addmm(dS_before, inv_dU_scaled.mT, vG_c, -1)
        qS_rows.put(qS)
        dU_scaled_rows.put(dU_scaled)
        dG_C_rows.put(dG_C)
        G_do_S_rows.put(G_do_S)
        U_dS_rows.put(U_dS)
        dk_rows.put(dk)
        inv_dU_S_rows.put(inv_dU_S)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    qS = qS_rows.joined()
    dU_scaled = dU_scaled_rows.joined()
    dG_C = dG_C_rows.joined()
    G_do_S = G_do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dk = dk_rows.joined()
    inv_dU_S = inv_dU_S_rows.joined()
    del qS_rows
    del dU_scaled_rows
    del dG_C_rows
    del G_do_S_rows
    del U_dS_rows
    del dk_rows
    del inv_dU_S_rows
    del G_do_scaled, dU_2
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    qS_scaled = qS * rsqrt_K
    qS_scaled_scaled = tiles.scale_(qS_scaled, rnorm_q[:, :, :, None])
    del qS_scaled, rnorm_q
    qS_G_do = tiles.product_(G_do, qS)
    del G_do, qS
    qS_G_do_sum = qS_G_do.sum(3)
    del qS_G_do
    qS_G_do_sum_scaled = qS_G_do_sum * rsqrt_K
    del qS_G_do_sum
    dU_scaled_U = dU_scaled * U
    del dU_scaled
    dU_scaled_U_sum = dU_scaled_U.sum(3)
    del dU_scaled_U
    U_dS_scaled = w_scale[:, :, :, None] * U_dS
    del U_dS
    dlog2_G_after = tiles.product_(v_G_after, U_dS_scaled, ln2)
    del v_G_after
    dlog2_D_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    drnorm_q_1 = qU_dqU_scaled_sum * rsqrt_K
    del qU_dqU_scaled_sum
    inv_dU_U = dk @ U.mT
    dv_scaled_v_scaled = inv_dU_U.tril(-1)
    del inv_dU_U
    dv_scaled, dv_2, dlog2_D_3 = tiles.decay_dot_grads(dv_scaled_v_scaled, f, w_, f1, strict=True)
    del dv_scaled_v_scaled, f, f1, w_
    dG = tiles.addcmul_(do * qS_scaled_scaled, inv_dU_S, w, -1)
    del qS_scaled_scaled, w
    dlog2_G = tiles.product_(dG, G, ln2)
    del dG
    dlog2_D_4 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dlog2_D = dlog2_G_C_2 + dlog2_D_2 + dlog2_D_1 + dlog2_D_3
    dlog2_D = dlog2_D + dlog2_D_4
    del dlog2_D_1, dlog2_D_2, dlog2_D_3, dlog2_D_4, dlog2_G_C_2
    drnorm_q = qS_G_do_sum_scaled + drnorm_q_1
    del drnorm_q_1, qS_G_do_sum_scaled
    dv_3 = dv_1 + dv_2
    del dv_1, dv_2
    db_3 = v * dv_3
    db_4 = db_3.sum(3)
    del db_3
    v_dv_scaled = v * dv_scaled
    v_dv_scaled_sum = v_dv_scaled.sum(3)
    del v_dv_scaled
    drnorm_v = tiles.addcmul_(-v_dv_scaled_sum, dU_scaled_U_sum, valid_beta)
    del v_dv_scaled_sum
    dgv = tiles.product_(sigmoid_gv_scaled, valid[:, :, :, None], dlog2_D, log2e, 0.0625)
    del dlog2_D, sigmoid_gv_scaled
    db = tiles.addcmul_(db_4 * db_2, dU_scaled_U_sum, db_2)
    del dU_scaled_U_sum, db_2
    dv_4 = tiles.product_(G, rnorm_v[:, :, :, None], inv_dU_S)
    del G
    dq_1 = rnorm_q_cubed * drnorm_q
    del drnorm_q, rnorm_q_cubed
    vG_inv_dU_S = tiles.product_(vG, inv_dU_S)
    del inv_dU_S, vG
    vG_inv_dU_S_sum = vG_inv_dU_S.sum(3)
    del vG_inv_dU_S
    dv_5 = tiles.addcmul_(-vG_inv_dU_S_sum, db_4, valid_beta)
    del db_4, vG_inv_dU_S_sum, valid_beta
    dv_6 = tiles.addcmul_(drnorm_v * -1 * rnorm_v_cubed, dv_5, rnorm_v_cubed, -1)
    del drnorm_v, dv_5, rnorm_v_cubed
    dv = tiles.addcmul_(-dv_4, G_after, U_dS_scaled)
    dv = tiles.addcmul_(dv, w_scale[:, :, :, None], dv_3)
    dv = tiles.addcmul_(dv, dv_6[:, :, :, None], v)
    dv = tiles.addcmul_(dv, rnorm_v[:, :, :, None], dv_scaled, -1)
    del G_after, U_dS_scaled, dv_3, dv_4, dv_6, dv_scaled, rnorm_v, w_scale
    dq = tiles.addcmul_(rnorm_q_scaled[:, :, :, None] * G_do_S, dq_1[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dqU_scaled_scaled_2, U)
    del G_do_S, dqU_scaled_scaled_2, dq_1, rnorm_q_scaled
    return (dq, dk, dv, dgv, db), (dS_end,)


chunked_backward.unread = (1,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gv, b_) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    logsigmoid_gv = F.logsigmoid(gv)
    alpha_1 = logsigmoid_gv * 0.0625
    del logsigmoid_gv
    alpha = torch.exp(alpha_1)
    del alpha_1
    norm2_v = tiles.sum_squares(v, 2)
    norm2_v_eps = norm2_v + 1e-06
    del norm2_v
    rnorm_v = torch.rsqrt(norm2_v_eps)
    del norm2_v_eps
    beta = torch.sigmoid(b_)
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    v_alpha = v * alpha
    w_scale = rnorm_v * beta
    del beta
    rnorm_q_scaled = rnorm_q * rsqrt_K
    del rnorm_q
    q_ = rnorm_q_scaled[:, :, None] * q
    del rnorm_q_scaled
    f = tiles.scale_(v_alpha, rnorm_v[:, :, None], -1)
    del rnorm_v, v_alpha
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        k_c,
        w_scale_c,
        alpha_c,
        v_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            k,
            w_scale,
            alpha[:, :, None],
            v[:, :, None],
            q_,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S.mT).squeeze(-2)
        S_new_1 = k_c + fS
        S_new_2 = w_scale_c[:, None] * S_new_1
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, S_new_2[:, :, None], v_c)
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
    del alpha, f, q_, w_scale
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gv, b_) = args
    H = h0[0].shape[1]
    logsigmoid_gv = F.logsigmoid(gv)
    alpha_1 = logsigmoid_gv * 0.0625
    del logsigmoid_gv
    alpha = torch.exp(alpha_1)
    del alpha_1
    norm2_v = tiles.sum_squares(v, 2)
    norm2_v_eps = norm2_v + 1e-06
    del norm2_v
    rnorm_v = torch.rsqrt(norm2_v_eps)
    del norm2_v_eps
    beta = torch.sigmoid(b_)
    v_alpha = v * alpha
    w_scale = rnorm_v * beta
    del beta
    f = tiles.scale_(v_alpha, rnorm_v[:, :, None], -1)
    del rnorm_v, v_alpha
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        f_c,
        k_c,
        w_scale_c,
        alpha_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            f,
            k,
            w_scale,
            alpha[:, :, None],
            v[:, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S.mT).squeeze(-2)
        S_new_1 = k_c + fS
        S_new_2 = w_scale_c[:, None] * S_new_1
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, S_new_2[:, :, None], v_c)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del alpha, f, w_scale
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gv, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    logsigmoid_gv = F.logsigmoid(gv)
    alpha_1 = logsigmoid_gv * 0.0625
    del logsigmoid_gv
    alpha = torch.exp(alpha_1)
    del alpha_1
    norm2_v = tiles.sum_squares(v, 2)
    norm2_v_eps = norm2_v + 1e-06
    del norm2_v
    rnorm_v = torch.rsqrt(norm2_v_eps)
    del norm2_v_eps
    beta = torch.sigmoid(b_)
    rsqrt_K = (K) ** -0.5
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    db_1 = -beta + 1
    gv_scaled = gv * -1
    sigmoid_gv_scaled = torch.sigmoid(gv_scaled)
    del gv_scaled
    v_alpha = v * alpha
    w_scale = rnorm_v * beta
    rnorm_q_scaled = rnorm_q * rsqrt_K
    rnorm_v_w_scale = rnorm_v * w_scale
    q_ = rnorm_q_scaled[:, :, None] * q
    f = (rnorm_v * -1)[:, :, None] * v_alpha
    fS = (f[..., None, :] @ S.mT).squeeze(-2)
    del f
    dq_scaled_1 = k + fS
    del fS
    dq_scaled_2 = (w_scale[:, :, None] * v)[:, :, None] * dq_scaled_1[:, :, :, None]
    dq_scaled_3 = torch.addcmul(dq_scaled_2, alpha[:, :, None], S)
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
    dS_before_2_rows = scan.Rows(steps, H, True)
    dk_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dS_before_1_c,
        v_c,
        rnorm_v_w_scale_c,
        alpha_c,
        v_alpha_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            v,
            rnorm_v_w_scale,
            alpha[:, :, None],
            v_alpha[:, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dk_1 = v_c[:, None] * dS_before_2
        dk_2 = torch.sum(dk_1, 2, out=dk_2_rows.room(n))
        dS_before_3 = rnorm_v_w_scale_c[:, None] * dk_2
        dS_before = tiles.addcmul_(alpha_c * dS_before_2, dS_before_3[:, :, None], v_alpha_c, -1)
        dS_before_2_rows.put(dS_before_2)
        dk_2_rows.put(dk_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    dk_2 = dk_2_rows.joined()
    del dS_before_2_rows
    del dk_2_rows
    del dS_before_1, rnorm_v_w_scale
    dv_1 = dq_scaled_1[:, :, :, None] * dS_before_2
    del dq_scaled_1
    dv_2 = dv_1.sum(2)
    del dv_1
    db_2 = v * dv_2
    db_3 = db_2.sum(2)
    del db_2
    dk = w_scale[:, :, None] * dk_2
    del dk_2
    db = tiles.product(db_3, db_1, w_scale)
    del db_1
    drnorm_v_1 = (dk[..., None, :] @ S).squeeze(-2)
    drnorm_v_2 = drnorm_v_1 * v_alpha
    del v_alpha
    drnorm_v_3 = drnorm_v_2.sum(2)
    del drnorm_v_2
    drnorm_v = tiles.addcmul_(-drnorm_v_3, beta, db_3)
    del beta, db_3, drnorm_v_3
    dnorm2_v_eps = tiles.product(rnorm_v, rnorm_v, rnorm_v, drnorm_v, -0.5)
    del drnorm_v
    dalpha_1 = S * dS_before_2
    del dS_before_2
    dalpha_2 = dalpha_1.sum(2)
    del dalpha_1
    dalpha_3 = tiles.scale_(drnorm_v_1, rnorm_v[:, :, None])
    del drnorm_v_1, rnorm_v
    dalpha = torch.addcmul(dalpha_2, v, dalpha_3, value=-1)
    del dalpha_2
    dgv = tiles.product(alpha, dalpha, sigmoid_gv_scaled, 0.0625)
    del dalpha, sigmoid_gv_scaled
    dv = tiles.addcmul_(w_scale[:, :, None] * dv_2, dnorm2_v_eps[:, :, None], v, 2)
    dv = tiles.addcmul_(dv, alpha, dalpha_3, -1)
    del alpha, dalpha_3, dnorm2_v_eps, dv_2, w_scale
    return (dq, dk, dv, dgv, db), (dS_end,)
