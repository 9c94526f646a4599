"""preconditioned_delta: generated from its spec by rnnc; do not edit.

Stage 1

h[t] = keep * h[t-1] + k**2 * (1 - keep)
h_read[t] = h[t]
  keep = sigmoid(f)

In a chunk of C tokens with the incoming state h_in:
  D = keep
  v = k**2 * (1 - keep)
  G[i] = D[1] * ... * D[i],  G[0] = 1
  u[i] = D[i] u[i-1] + v[i],  u[0] = 0, as a scan
  h[i] = G[i] * h_in + u[i]
  h_out = G[C] * h_in + sum_j (G[C]/G[j]) v[j]

Stage 2

S[t] = S[t-1] + beta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = sigmoid(b)
  u = unit(k * rsqrt(max(h_read, 0) + 1e-06))

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
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "preconditioned_delta"
SPEC_HASH = "fa8cf8ca2f86b7996aa586d64f3b88cb25ee8daf7a7481cd4679b322a57612fc"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("f", ("K",)), ("b", ()))
PARAMS = ()
STATES = (("h", ("K",)), ("S", ("K", "V")))
OUTPUTS = (("o", ("V",)),)


def stage1_chunked_forward(args, valid, h0, steps, keep):
    (k, f) = args
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    keep__ = torch.where(valid[:, :, :, None] > 0, keep_, 1)
    k_squared = k * k
    h_read_1 = -keep_ + 1
    del keep_
    logsigmoid_f = F.logsigmoid(f)
    log2_D_1 = logsigmoid_f * tiles.LOG2E
    del logsigmoid_f
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    h_read_2 = k_squared * h_read_1
    del h_read_1, k_squared
    h_new_1 = G_after * h_read_2
    del G_after
    h_new_2 = valid[:, :, :, None] * h_new_1
    del h_new_1
    h_read_3 = valid[:, :, :, None] * h_read_2
    del h_read_2
    h_read_4 = tiles.linear_scan(keep__, h_read_3, 2)
    del h_read_3, keep__
    h_new_3 = h_new_2.sum(2)
    del h_new_2
    h_rows = scan.Rows(steps, H)
    h_read_rows = scan.Rows(steps, H)
    (h,) = scan.flat(h0)
    h_done = []
    for n, (h_read_4_c, G_c, G_C_c, h_new_3_c) in scan.each(steps, H, (h_read_4, G, G_C, h_new_3)):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_read = torch.addcmul(h_read_4_c, h[:, None], G_c)
        h_new = torch.addcmul(h_new_3_c, h, G_C_c)
        h_read_rows.put(h_read)
        h = h_new
    h_end = torch.cat([h, *reversed(h_done)]) if h_done else h
    h_end = h_end.unflatten(0, (-1, H))
    h_read = h_read_rows.joined()
    if keep:
        h = h_rows.joined()
    del h_rows
    del h_read_rows
    del G, G_C, h_new_3, h_read_4
    return (h_read,), (h_end,), (h,) if keep else None


def stage1_chunked_states(args, valid, h0, steps, keep):
    (k, f) = args
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    k_squared = k * k
    h_read_1 = -keep_ + 1
    del keep_
    logsigmoid_f = F.logsigmoid(f)
    log2_D_1 = logsigmoid_f * tiles.LOG2E
    del logsigmoid_f
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    h_read_2 = k_squared * h_read_1
    del h_read_1, k_squared
    h_new_1 = G_after * h_read_2
    del G_after, h_read_2
    h_new_2 = valid[:, :, :, None] * h_new_1
    del h_new_1
    h_new_3 = h_new_2.sum(2)
    del h_new_2
    h_rows = scan.Rows(steps, H)
    (h,) = scan.flat(h0)
    h_done = []
    for n, (G_C_c, h_new_3_c) in scan.each(steps, H, (G_C, h_new_3)):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_new = torch.addcmul(h_new_3_c, h, G_C_c)
        h = h_new
    h_end = torch.cat([h, *reversed(h_done)]) if h_done else h
    h_end = h_end.unflatten(0, (-1, H))
    if keep:
        h = h_rows.joined()
    del h_rows
    del G_C, h_new_3
    return (), (h_end,), (h,) if keep else None


def stage1_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (k, f) = args
    if kept is None:
        kept = stage1_chunked_states(args, valid, h0, steps, True)[2]
    (h,) = kept
    (dh_read,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    keep__ = torch.where(valid[:, :, :, None] > 0, keep_, 1)
    k_squared = k * k
    df_1 = -keep_ + 1
    logsigmoid_f = F.logsigmoid(f)
    log2_D_1 = logsigmoid_f * tiles.LOG2E
    del logsigmoid_f
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    h_G_C = h * G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    ln2 = tiles.LN2
    G_dh_read = G * dh_read
    del G
    G_dh_read_sum = G_dh_read.sum(2)
    log2e = tiles.LOG2E
    f_scaled = f * -1
    sigmoid_f_scaled = torch.sigmoid(f_scaled)
    del f_scaled
    dk_1 = tiles.linear_scan(keep__, dh_read, 2, suffix=True)
    dlog2_G_after_1 = k_squared * df_1
    dk_2 = k * df_1
    dlog2_G_after_2 = G_after * dlog2_G_after_1
    dk_3 = valid[:, :, :, None] * dk_1
    del dk_1
    G_after_scaled = valid[:, :, :, None] * G_after
    del G_after
    dlog2_G_after_3 = valid[:, :, :, None] * dlog2_G_after_2
    del dlog2_G_after_2
    dkeep_1 = valid[:, :, :, None] * dlog2_G_after_1
    del dlog2_G_after_1
    dlog2_G = (h * ln2)[:, :, None] * G_dh_read
    del G_dh_read
    dlog2_D_1 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dkeep_2 = tiles.linear_scan(keep__, dkeep_1, 2, exclusive=True)
    del dkeep_1, keep__
    dh_rows = scan.Rows(steps, H, True)
    (dh_end,) = scan.flat(dht)
    dh = dh_end[:0]
    own = False
    for n, (G_C_c, G_dh_read_sum_c) in scan.each(steps, H, (G_C, G_dh_read_sum), True):
        if dh.shape[0] < n:
            dh = torch.cat([dh, dh_end[dh.shape[0] : n]])
        dh_rows.put(dh)
        dh_before = scan.scale(dh, G_C_c, own, dh_rows) + G_dh_read_sum_c
        dh = dh_before
        own = True
    dh_end = torch.cat([dh, dh_end[dh.shape[0] :]]) if dh.shape[0] < dh_end.shape[0] else dh
    dh_end = dh_end.unflatten(0, (-1, H))
    dh = dh_rows.joined()
    del dh_rows
    del G_C, G_dh_read_sum
    dk_4 = dh[:, :, None] * G_after_scaled
    del G_after_scaled
    dh_scaled = dh * ln2
    del dh
    dlog2_G_after = dh_scaled[:, :, None] * dlog2_G_after_3
    del dlog2_G_after_3
    dlog2_D_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dlog2_G_C = h_G_C * dh_scaled
    del dh_scaled, h_G_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    dlog2_D = dlog2_D_2 + dlog2_G_C_2 + dlog2_D_1
    del dlog2_D_1, dlog2_D_2, dlog2_G_C_2
    df_2 = tiles.product(dlog2_D, sigmoid_f_scaled, (valid * log2e)[:, :, :, None])
    del dlog2_D, sigmoid_f_scaled
    dkeep = tiles.addcmul_(dkeep_2 * dk_3, k_squared, dk_4, -1)
    dkeep = tiles.addcmul_(dkeep, k_squared, dk_3, -1)
    del dkeep_2, k_squared
    df_3 = tiles.product(keep_, df_1, dkeep)
    del df_1, dkeep, keep_
    df = df_2 + df_3
    del df_2, df_3
    dk = tiles.addcmul_(dk_2 * 2 * dk_4, dk_2, dk_3, 2)
    del dk_2, dk_3, dk_4
    return (dk, df), (dh_end,)


def stage1_recurrent_forward(args, valid, h0, steps, keep):
    (k, f) = args
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    k_squared = k * k
    h_new_1 = -keep_ + 1
    h_new_2 = k_squared * h_new_1
    del h_new_1, k_squared
    h_rows = scan.Rows(steps, H)
    h_read_rows = scan.Rows(steps, H)
    (h,) = scan.flat(h0)
    h_done = []
    for n, (keep__c, h_new_2_c) in scan.each(steps, H, (keep_, h_new_2)):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_read = torch.addcmul(h_new_2_c, h, keep__c)
        h_read_rows.put(h_read)
        h = h_read
    h_end = torch.cat([h, *reversed(h_done)]) if h_done else h
    h_end = h_end.unflatten(0, (-1, H))
    h_read = h_read_rows.joined()
    if keep:
        h = h_rows.joined()
    del h_rows
    del h_read_rows
    del h_new_2, keep_
    return (h_read,), (h_end,), (h,) if keep else None


def stage1_recurrent_states(args, valid, h0, steps, keep):
    (k, f) = args
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    k_squared = k * k
    h_new_1 = -keep_ + 1
    h_new_2 = k_squared * h_new_1
    del h_new_1, k_squared
    h_rows = scan.Rows(steps, H)
    (h,) = scan.flat(h0)
    h_done = []
    for n, (keep__c, h_new_2_c) in scan.each(steps, H, (keep_, h_new_2)):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_read = torch.addcmul(h_new_2_c, h, keep__c)
        h = h_read
    h_end = torch.cat([h, *reversed(h_done)]) if h_done else h
    h_end = h_end.unflatten(0, (-1, H))
    if keep:
        h = h_rows.joined()
    del h_rows
    del h_new_2, keep_
    return (), (h_end,), (h,) if keep else None


def stage1_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (k, f) = args
    if kept is None:
        kept = stage1_recurrent_states(args, valid, h0, steps, True)[2]
    (h,) = kept
    (dh_read,) = douts
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    k_squared = k * k
    dk_1 = -keep_ + 1
    dh_before_1_rows = scan.Rows(steps, H, True)
    (dh_end,) = scan.flat(dht)
    dh = dh_end[:0]
    for n, (dh_read_c, keep__c) in scan.each(steps, H, (dh_read, keep_), True):
        if dh.shape[0] < n:
            dh = torch.cat([dh, dh_end[dh.shape[0] : n]])
        dh_before_1 = dh + dh_read_c
        dh_before = keep__c * dh_before_1
        dh_before_1_rows.put(dh_before_1)
        dh = dh_before
    dh_end = torch.cat([dh, dh_end[dh.shape[0] :]]) if dh.shape[0] < dh_end.shape[0] else dh
    dh_end = dh_end.unflatten(0, (-1, H))
    dh_before_1 = dh_before_1_rows.joined()
    del dh_before_1_rows
    dk = tiles.product(k, dk_1, dh_before_1, 2)
    dkeep = tiles.addcmul_(h * dh_before_1, k_squared, dh_before_1, -1)
    del dh_before_1, k_squared
    df = tiles.product(keep_, dk_1, dkeep)
    del dk_1, dkeep, keep_
    return (dk, df), (dh_end,)


def stage2_chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_, h_read) = args
    H = h0[0].shape[1]
    beta = torch.sigmoid(b_)
    max_h_read = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    w_1 = max_h_read + 1e-06
    del max_h_read
    w_2 = torch.rsqrt(w_1)
    del w_1
    w_3 = k * w_2
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    P_1 = w_3 @ w_3.mT
    A_1 = q @ w_3.mT
    P_2 = k * w_3
    valid_beta = valid * beta
    valid_beta_2 = valid * beta
    del beta
    P_3 = w_2 * P_2
    del P_2, w_2
    P_4 = P_3.sum(3)
    del P_3
    P_5 = P_4 + 1e-06
    del P_4
    P_6 = torch.rsqrt(P_5)
    del P_5
    w_scale = P_6 * valid_beta
    del valid_beta
    w = w_scale[:, :, :, None] * w_3
    del w_scale
    w_scale_2 = P_6 * valid_beta_2
    del valid_beta_2
    P = tiles.product(P_1, (P_6 * -1)[:, :, :, None], w_scale_2[:, :, None])
    A_2 = tiles.product(A_1, rnorm_q[:, :, :, None], w_scale_2[:, :, None])
    del w_scale_2
    A = A_2.tril(0)
    del A_2
    inv = tiles.inverse(P)
    del P
    q_ = rnorm_q[:, :, :, None] * q
    del rnorm_q
    u = P_6[:, :, :, None] * w_3
    del P_6, w_3
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, u_c, inv_c, q__c, A_c, w_c) in scan.each(steps, H, (v, u, inv, q_, A, w.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, u_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = scan.addmm(torch.bmm(q__c, S, out=o_rows.room(n)), A_c, U)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, w_c, U)
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
    del A, q_, u, w
    return (o,), (S_end,), (S, P_1, A_1, inv, U) if keep else None


stage2_chunked_forward.by_step = (2,)


def stage2_chunked_states(args, valid, h0, steps, keep):
    (q, k, v, b_, h_read) = args
    H = h0[0].shape[1]
    beta = torch.sigmoid(b_)
    max_h_read = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    w_1 = max_h_read + 1e-06
    del max_h_read
    w_2 = torch.rsqrt(w_1)
    del w_1
    w_3 = k * w_2
    P_1 = w_3 @ w_3.mT
    A_1 = q @ w_3.mT
    P_2 = k * w_3
    valid_beta = valid * beta
    valid_beta_2 = valid * beta
    del beta
    P_3 = w_2 * P_2
    del P_2, w_2
    P_4 = P_3.sum(3)
    del P_3
    P_5 = P_4 + 1e-06
    del P_4
    P_6 = torch.rsqrt(P_5)
    del P_5
    w_scale = P_6 * valid_beta
    del valid_beta
    w = w_scale[:, :, :, None] * w_3
    del w_scale
    w_scale_2 = P_6 * valid_beta_2
    del valid_beta_2
    P = tiles.product(P_1, (P_6 * -1)[:, :, :, None], w_scale_2[:, :, None])
    del w_scale_2
    inv = tiles.inverse(P)
    del P
    u = P_6[:, :, :, None] * w_3
    del P_6, w_3
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, u_c, inv_c, w_c) in scan.each(steps, H, (v, u, inv, w.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = torch.baddbmm(v_c, u_c, S, alpha=-1)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, w_c, U)
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
    del u, w
    return (), (S_end,), (S, P_1, A_1, inv, U) if keep else None


stage2_chunked_states.by_step = (2,)


def stage2_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_, h_read) = args
    if kept is None:
        kept = stage2_chunked_states(args, valid, h0, steps, True)[2]
    (S, P_1, dv_1, inv, U) = kept
    (do,) = douts
    H = h0[0].shape[1]
    beta = torch.sigmoid(b_)
    max_h_read = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    P_1_1 = max_h_read + 1e-06
    del max_h_read
    P_1_2 = torch.rsqrt(P_1_1)
    del P_1_1
    P_1_3 = k * P_1_2
    max_h_read_2 = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    dk_1 = max_h_read_2 + 1e-06
    del max_h_read_2
    dk_2 = torch.rsqrt(dk_1)
    del dk_1
    dk_3 = k * dk_2
    del dk_2
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    dqS = rnorm_q[:, :, :, None] * do
    h_read_scaled = h_read * -1
    step_h_read_scaled = tiles.step(h_read_scaled)
    del h_read_scaled
    dh_read_1 = -step_h_read_scaled + 1
    del step_h_read_scaled
    db_1 = -beta + 1
    u_1 = k * P_1_3
    dh_read_2 = P_1_2 * P_1_2
    dk_4 = P_1_2 * P_1_3
    dh_read_3 = P_1_2 * dh_read_1
    del dh_read_1
    dh_read_4 = dh_read_2 * dh_read_3
    del dh_read_2, dh_read_3
    valid_beta = valid * beta
    valid_beta_2 = valid * beta
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    u_2 = P_1_2 * u_1
    u_3 = u_2.sum(3)
    del u_2
    u_4 = u_3 + 1e-06
    del u_3
    u_5 = torch.rsqrt(u_4)
    del u_4
    u = u_5[:, :, :, None] * P_1_3
    w_scale = u_5 * valid_beta
    w_scale_2 = u_5 * valid_beta_2
    del valid_beta_2
    dv_2 = tiles.product(dv_1, rnorm_q[:, :, :, None], w_scale_2[:, :, None])
    dv_3 = dv_2.tril(0)
    del dv_2
    do_U = do @ U.mT
    do_U_lower = do_U.tril(0)
    del do_U
    dq_1 = dv_1 * do_U_lower
    dq_2 = w_scale_2[:, :, None] * dq_1
    db_2 = rnorm_q[:, :, :, None] * dq_1
    del dq_1
    db_3 = db_2.sum(2)
    del db_2
    dq_3 = dq_2.sum(3)
    del dq_2
    do_U_lower_scaled = w_scale_2[:, :, None] * do_U_lower
    do_U_lower_scaled_2 = rnorm_q[:, :, :, None] * do_U_lower
    del do_U_lower
    dk_5 = u_5 * u_5
    dk_6 = u_5 * dk_5
    del dk_5
    db_4 = valid * u_5
    dq_4 = rnorm_q[:, :, :, None] * do_U_lower_scaled
    del do_U_lower_scaled
    dk_7 = w_scale[:, :, None] * do_U_lower_scaled_2
    del do_U_lower_scaled_2
    w = w_scale[:, :, :, None] * P_1_3
    do_S_rows = scan.Rows(steps, H, True)
    dw_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dk_8_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        w_c,
        dv_3_c,
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
            w,
            dv_3.mT,
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
        dv_4 = scan.addmm(torch.bmm(w_c, dS), dv_3_c, do_c)
        dv = torch.bmm(inv_c, dv_4, out=dv_rows.room(n))
        dw = torch.bmm(U_c, dS.mT, out=dw_rows.room(n))
        do_S = torch.bmm(do_c, S_c, out=do_S_rows.room(n))
        dk_8 = torch.bmm(dv, S_c, out=dk_8_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own), q_c, dqS_c)
        dS_before = scan.addmm(dS_before, u_c, dv, -1)
        do_S_rows.put(do_S)
        dw_rows.put(dw)
        dv_rows.put(dv)
        dk_8_rows.put(dk_8)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    do_S = do_S_rows.joined()
    dw = dw_rows.joined()
    dv = dv_rows.joined()
    dk_8 = dk_8_rows.joined()
    del do_S_rows
    del dw_rows
    del dv_rows
    del dk_8_rows
    del dqS, dv_3, u, w
    dw_scaled = w_scale[:, :, :, None] * dw
    db_5 = P_1_3 * dw
    del dw
    db_6 = db_5.sum(3)
    del db_5
    db_7 = tiles.product(db_1, db_6, w_scale)
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    dq_5 = q_do_S_sum + dq_3
    del dq_3, q_do_S_sum
    dq_6 = rnorm_q_cubed * dq_5
    del dq_5, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q[:, :, :, None] * do_S, dq_6[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dq_4, P_1_3)
    del do_S, dq_4, dq_6, rnorm_q
    dk_9 = dv @ U.mT
    dk_10 = dk_9.tril(-1)
    del dk_9
    dk_11 = P_1 * dk_10
    dk_12 = w_scale_2[:, :, None] * dk_11
    dk_13 = dk_12.sum(3)
    del dk_12
    db_8 = u_5[:, :, :, None] * dk_11
    del dk_11
    db_9 = db_8.sum(2)
    del db_8
    dk_14 = w_scale_2[:, :, None] * dk_10
    del w_scale_2
    dk_15 = u_5[:, :, :, None] * dk_10
    del dk_10
    dk_16 = w_scale[:, :, None] * dk_15
    del dk_15, w_scale
    dk_17 = tiles.addmm_(dk_7.mT @ q, dk_16.mT, dk_3, -1)
    del dk_16, dk_3, dk_7
    db_10 = tiles.addcmul_(db_3 * db_4, db_9, db_4, -1)
    del db_4
    db_11 = tiles.product(beta, db_1, db_10)
    del beta, db_1, db_10
    dk_18 = tiles.addcmul_(-dk_13, db_6, valid_beta)
    del db_6, dk_13
    dk_19 = u_5[:, :, :, None] * dk_14
    del dk_14
    dk_20 = tiles.addmm_(u_5[:, :, :, None] * -1 * dk_8, dk_19, P_1_3, -1)
    del dk_19, u_5
    dk_21 = dk_18 * dk_6
    del dk_18
    dh_read_5 = tiles.addcmul_(tiles.addcmul_(k * dw_scaled, k, dk_20), dk_21[:, :, :, None], u_1, -1)
    db = db_11 + db_7
    del db_11, db_7
    dk_22 = P_1_3 * dk_8
    del P_1_3, dk_8
    dk_23 = dk_22.sum(3)
    del dk_22
    dk_24 = tiles.addcmul_(tiles.addcmul_(-dk_23, db_3, valid_beta), db_9, valid_beta, -1)
    del db_3, db_9, dk_23, valid_beta
    dk_25 = dk_24 * dk_6
    del dk_24, dk_6
    dk = tiles.addcmul_(P_1_2 * dk_17, P_1_2, dw_scaled)
    dk = tiles.addcmul_(tiles.addcmul_(dk, P_1_2, dk_20), dk_25[:, :, :, None], dk_4, -1)
    dk = tiles.addcmul_(dk, dk_21[:, :, :, None], dk_4, -1)
    del P_1_2, dk_20, dk_21, dk_4, dw_scaled
    dh_read_6 = tiles.addcmul_(k * dk_17, dk_25[:, :, :, None], u_1, -1)
    del dk_17, dk_25, u_1
    dh_read = tiles.addcmul_(dh_read_6 * -0.5 * dh_read_4, dh_read_5, dh_read_4, -0.5)
    del dh_read_4, dh_read_5, dh_read_6
    return (dq, dk, dv, db, dh_read), (dS_end,)


stage2_chunked_backward.unread = (2,)


def stage2_recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_, h_read) = args
    H = h0[0].shape[1]
    max_h_read = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    f_1 = max_h_read + 1e-06
    del max_h_read
    f_2 = torch.rsqrt(f_1)
    del f_1
    f_3 = k * f_2
    beta = torch.sigmoid(b_)
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    del rnorm_q
    f_4 = k * f_3
    f_5 = f_2 * f_4
    del f_2, f_4
    f_6 = f_5.sum(2)
    del f_5
    f_7 = f_6 + 1e-06
    del f_6
    f_8 = torch.rsqrt(f_7)
    del f_7
    f = (f_8 * -1)[:, :, None] * f_3
    w_scale = f_8 * beta
    del beta, f_8
    w = w_scale[:, :, None] * f_3
    del f_3, w_scale
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (f_c, v_c, w_c, q__c) in scan.each(steps, H, (f, v, w[:, :, :, None], q_)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_c + fS
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
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
    del f, q_, w
    return (o,), (S_end,), (S,) if keep else None


def stage2_recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_, h_read) = args
    H = h0[0].shape[1]
    max_h_read = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    f_1 = max_h_read + 1e-06
    del max_h_read
    f_2 = torch.rsqrt(f_1)
    del f_1
    f_3 = k * f_2
    beta = torch.sigmoid(b_)
    f_4 = k * f_3
    f_5 = f_2 * f_4
    del f_2, f_4
    f_6 = f_5.sum(2)
    del f_5
    f_7 = f_6 + 1e-06
    del f_6
    f_8 = torch.rsqrt(f_7)
    del f_7
    f = (f_8 * -1)[:, :, None] * f_3
    w_scale = f_8 * beta
    del beta, f_8
    w = w_scale[:, :, None] * f_3
    del f_3, w_scale
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (f_c, v_c, w_c) in scan.each(steps, H, (f, v, w[:, :, :, None])):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        fS = (f_c[..., None, :] @ S).squeeze(-2)
        u_ = v_c + fS
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new, w_c, u_[:, None])
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del f, w
    return (), (S_end,), (S,) if keep else None


def stage2_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_, h_read) = args
    if kept is None:
        kept = stage2_recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    max_h_read = torch.maximum(h_read, torch.as_tensor(0, dtype=h_read.dtype, device=h_read.device))
    f_1 = max_h_read + 1e-06
    del max_h_read
    f_2 = torch.rsqrt(f_1)
    del f_1
    f_3 = k * f_2
    beta = torch.sigmoid(b_)
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    db_1 = -beta + 1
    h_read_scaled = h_read * -1
    step_h_read_scaled = tiles.step(h_read_scaled)
    del h_read_scaled
    dh_read_1 = -step_h_read_scaled + 1
    del step_h_read_scaled
    f_4 = k * f_3
    f_5 = f_2 * f_4
    f_6 = f_5.sum(2)
    del f_5
    f_7 = f_6 + 1e-06
    del f_6
    f_8 = torch.rsqrt(f_7)
    del f_7
    f = (f_8 * -1)[:, :, None] * f_3
    fS = (f[..., None, :] @ S).squeeze(-2)
    del f
    u_ = v + fS
    del fS
    w_scale = f_8 * beta
    dq_1 = (w_scale[:, :, None] * f_3)[:, :, :, None] * u_[:, :, None]
    dq_2 = S + dq_1
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
    dS_before_2 = f_8 * w_scale
    dq = tiles.addcmul_(rnorm_q[:, :, None] * dq_, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_, rnorm_q
    dS_before_3 = dS_before_2[:, :, None] * f_3
    del dS_before_2
    dv_1_rows = scan.Rows(steps, H, True)
    dv_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dS_before_1_c,
        f_3_c,
        dS_before_3_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            f_3,
            dS_before_3[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dv_1 = dS + dS_before_1_c
        dv_2 = f_3_c[:, :, None] * dv_1
        dv_3 = torch.sum(dv_2, 1, out=dv_3_rows.room(n))
        dS_before = tiles.addcmul_(scan.scale(dS, 1, own) + dS_before_1_c, dS_before_3_c, dv_3[:, None], -1)
        dv_1_rows.put(dv_1)
        dv_3_rows.put(dv_3)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dv_1 = dv_1_rows.joined()
    dv_3 = dv_3_rows.joined()
    del dv_1_rows
    del dv_3_rows
    del dS_before_1, dS_before_3
    dk_1 = u_[:, :, None] * dv_1
    del dv_1
    dk_2 = dk_1.sum(3)
    del dk_1
    dk_3 = w_scale[:, :, None] * dk_2
    del dk_2
    db_2 = u_ * dv_3
    del u_
    db_3 = db_2.sum(2)
    del db_2
    dv = w_scale[:, :, None] * dv_3
    del dv_3
    db = tiles.product(db_3, db_1, w_scale)
    del db_1, w_scale
    dk_4 = (dv[..., None, :] @ S.mT).squeeze(-2)
    dk_5 = f_3 * dk_4
    dk_6 = dk_5.sum(2)
    del dk_5
    dk_7 = tiles.addcmul_(-dk_6, beta, db_3)
    del beta, db_3, dk_6
    dk_8 = tiles.product(f_8, f_8, f_8, dk_7, -0.5)
    del dk_7
    dk_9 = tiles.product(f_2, f_3, dk_8[:, :, None])
    del f_3
    dk_10 = f_8[:, :, None] * dk_4
    del dk_4, f_8
    dh_read_2 = tiles.addcmul_(k * dk_3, dk_8[:, :, None], f_4, 2)
    dh_read_2 = tiles.addcmul_(dh_read_2, k, dk_10, -1)
    del dk_8, f_4
    dh_read = tiles.product(f_2, f_2, f_2, dh_read_2, dh_read_1, -0.5)
    del dh_read_1, dh_read_2
    dk = tiles.addcmul_(tiles.addcmul_(2 * dk_9, f_2, dk_3), f_2, dk_10, -1)
    del dk_10, dk_3, dk_9, f_2
    return (dq, dk, dv, db, dh_read), (dS_end,)
