"""preconditioned_delta: generated from its spec by rnnc; do not edit.

Stage 1

h[t] = keep * h[t-1] + k**2 * (1 - keep)
h_read[t] = k * rsqrt(1e-06 + max(h[t], 0))
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
  u = unit(h_read)

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
    h_new_1 = -keep_ + 1
    del keep_
    logsigmoid_f = F.logsigmoid(f)
    log2_D_1 = logsigmoid_f * tiles.LOG2E
    del logsigmoid_f
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    h_new_2 = tiles.product_(k_squared, h_new_1)
    del h_new_1, k_squared
    h_new_3 = tiles.product_(G_after, h_new_2)
    del G_after
    h_new_4 = tiles.scale_(h_new_3, valid[:, :, :, None])
    del h_new_3
    h_read_1 = tiles.scale_(h_new_2, valid[:, :, :, None])
    del h_new_2
    h_read_2 = tiles.linear_scan(keep__, h_read_1, 2)
    del h_read_1, keep__
    h_new_5 = h_new_4.sum(2)
    del h_new_4
    h_rows = scan.Rows(steps, H)
    h_read_rows = scan.Rows(steps, H)
    (h,) = scan.flat(h0)
    h_done = []
    for n, (
        h_read_2_c,
        G_c,
        k_c,
        G_C_c,
        h_new_5_c,
    ) in scan.each(
        steps,
        H,
        (
            h_read_2,
            G,
            k,
            G_C,
            h_new_5,
        ),
    ):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_read_3 = torch.addcmul(h_read_2_c, h[:, None], G_c)
        h_read_4 = torch.maximum(h_read_3, torch.as_tensor(0, dtype=h_read_3.dtype, device=h_read_3.device))
        h_read_5 = h_read_4 + 1e-06
        h_read_6 = torch.rsqrt(h_read_5)
        h_read = k_c * h_read_6
        h_new = torch.addcmul(h_new_5_c, h, G_C_c)
        h_read_rows.put(h_read)
        h = h_new
    h_end = torch.cat([h, *reversed(h_done)]) if h_done else h
    h_end = h_end.unflatten(0, (-1, H))
    h_read = h_read_rows.joined()
    if keep:
        h = h_rows.joined()
    del h_rows
    del h_read_rows
    del G, G_C, h_new_5, h_read_2
    return (h_read,), (h_end,), (h,) if keep else None


def stage1_chunked_states(args, valid, h0, steps, keep):
    (k, f) = args
    H = h0[0].shape[1]
    keep_ = torch.sigmoid(f)
    k_squared = k * k
    h_new_1 = -keep_ + 1
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
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    h_new_2 = tiles.product_(k_squared, h_new_1)
    del h_new_1, k_squared
    h_new_3 = tiles.product_(G_after, h_new_2)
    del G_after, h_new_2
    h_new_4 = tiles.scale_(h_new_3, valid[:, :, :, None])
    del h_new_3
    h_new_5 = h_new_4.sum(2)
    del h_new_4
    h_rows = scan.Rows(steps, H)
    (h,) = scan.flat(h0)
    h_done = []
    for n, (G_C_c, h_new_5_c) in scan.each(steps, H, (G_C, h_new_5)):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_new = torch.addcmul(h_new_5_c, h, G_C_c)
        h = h_new
    h_end = torch.cat([h, *reversed(h_done)]) if h_done else h
    h_end = h_end.unflatten(0, (-1, H))
    if keep:
        h = h_rows.joined()
    del h_rows
    del G_C, h_new_5
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
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    G_scaled = h[:, :, None] * G
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    h_G_C = h * G_C
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    del log2_D
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    ln2 = tiles.LN2
    log2e = tiles.LOG2E
    f_scaled = f * -1
    sigmoid_f_scaled = tiles.apply_(torch.sigmoid_, f_scaled)
    del f_scaled
    dlog2_G_after_1 = k_squared * df_1
    dk_1 = k * df_1
    dlog2_G_after_2 = G_after * dlog2_G_after_1
    G_after_scaled = tiles.scale_(G_after, valid[:, :, :, None])
    del G_after
    dlog2_G_after_3 = tiles.scale_(dlog2_G_after_2, valid[:, :, :, None])
    del dlog2_G_after_2
    dkeep_1 = tiles.scale_(dlog2_G_after_1, valid[:, :, :, None])
    del dlog2_G_after_1
    dk_2 = tiles.linear_scan(keep__, dkeep_1, 2)
    dk_3 = dk_2 + G_scaled
    dk_4 = torch.maximum(dk_3, torch.as_tensor(0, dtype=dk_3.dtype, device=dk_3.device))
    del dk_3
    dk_5 = dk_4 + 1e-06
    del dk_4
    dk_6 = tiles.apply_(torch.rsqrt_, dk_5)
    del dk_5
    dlog2_G_1 = -dk_2 - G_scaled
    del G_scaled, dk_2
    dlog2_G_2 = tiles.step(dlog2_G_1)
    del dlog2_G_1
    dlog2_G_3 = -dlog2_G_2 + 1
    del dlog2_G_2
    dlog2_G_4 = tiles.product_(k, dk_6)
    dlog2_G_5 = tiles.product_(dlog2_G_4, dk_6)
    del dlog2_G_4
    dk_7 = tiles.product_(dk_6, dh_read)
    del dk_6
    dlog2_G_6 = tiles.product_(dlog2_G_3, dk_7)
    del dlog2_G_3
    dlog2_G_7 = tiles.product_(dlog2_G_5, dlog2_G_6)
    del dlog2_G_5, dlog2_G_6
    dk_8 = dlog2_G_7 * -0.5
    dlog2_G_8 = tiles.product_(G, dlog2_G_7)
    del G, dlog2_G_7
    dh_before_1 = dlog2_G_8.sum(2)
    dlog2_G = tiles.scale_(dlog2_G_8, h[:, :, None], ln2, -0.5)
    del dlog2_G_8
    dlog2_D_1 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dk_9 = tiles.linear_scan(keep__, dk_8, 2, suffix=True)
    del dk_8
    dkeep_2 = tiles.linear_scan(keep__, dkeep_1, 2, exclusive=True)
    del dkeep_1, keep__
    dk_10 = valid[:, :, :, None] * dk_9
    del dk_9
    dh_rows = scan.Rows(steps, H, True)
    (dh_end,) = scan.flat(dht)
    dh = dh_end[:0]
    own = False
    for n, (G_C_c, dh_before_1_c) in scan.each(steps, H, (G_C, dh_before_1), True):
        if dh.shape[0] < n:
            dh = torch.cat([dh, dh_end[dh.shape[0] : n]])
        dh_rows.put(dh)
        dh_before = torch.add(scan.scale(dh, G_C_c, own, dh_rows), dh_before_1_c, alpha=-0.5)
        dh = dh_before
        own = True
    dh_end = torch.cat([dh, dh_end[dh.shape[0] :]]) if dh.shape[0] < dh_end.shape[0] else dh
    dh_end = dh_end.unflatten(0, (-1, H))
    dh = dh_rows.joined()
    del dh_rows
    del G_C, dh_before_1
    dk_11 = tiles.scale_(G_after_scaled, dh[:, :, None])
    del G_after_scaled
    dh_scaled = dh * ln2
    del dh
    dlog2_G_after = tiles.scale_(dlog2_G_after_3, dh_scaled[:, :, None])
    del dlog2_G_after_3
    dlog2_D_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dlog2_G_C = h_G_C * dh_scaled
    del dh_scaled, h_G_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    dlog2_D = dlog2_D_2 + dlog2_G_C_2 + dlog2_D_1
    del dlog2_D_1, dlog2_D_2, dlog2_G_C_2
    df_2 = tiles.product_(dlog2_D, valid[:, :, :, None], sigmoid_f_scaled, log2e)
    del dlog2_D, sigmoid_f_scaled
    dkeep = tiles.addcmul_(dkeep_2 * dk_10, k_squared, dk_11, -1)
    dkeep = tiles.addcmul_(dkeep, k_squared, dk_10, -1)
    del dkeep_2, k_squared
    df_3 = tiles.product_(keep_, df_1, dkeep)
    del df_1, dkeep, keep_
    df = df_2 + df_3
    del df_2, df_3
    dk = torch.addcmul(dk_7, dk_1, dk_11, value=2)
    dk = tiles.addcmul_(dk, dk_1, dk_10, 2)
    del dk_1, dk_10, dk_11, dk_7
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
    for n, (keep__c, h_new_2_c, k_c) in scan.each(steps, H, (keep_, h_new_2, k)):
        if h.shape[0] > n:
            h_done.append(h[n:])
            h = h[:n]
        if keep:
            h_rows.put(h)
        h_new = torch.addcmul(h_new_2_c, h, keep__c)
        max_h_new = torch.maximum(h_new, torch.as_tensor(0, dtype=h_new.dtype, device=h_new.device))
        h_read_1 = max_h_new + 1e-06
        h_read_2 = torch.rsqrt(h_read_1)
        h_read = k_c * h_read_2
        h_read_rows.put(h_read)
        h = h_new
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
        h_new = torch.addcmul(h_new_2_c, h, keep__c)
        h = h_new
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
    h_keep = h * keep_
    k_squared = k * k
    df_1 = -keep_ + 1
    dk_1 = k_squared * df_1
    dk_2 = h_keep + dk_1
    dk_3 = torch.maximum(dk_2, torch.as_tensor(0, dtype=dk_2.dtype, device=dk_2.device))
    del dk_2
    dk_4 = dk_3 + 1e-06
    del dk_3
    dk_5 = torch.rsqrt(dk_4)
    del dk_4
    dh_before_1 = -h_keep - dk_1
    del dk_1, h_keep
    dh_before_2 = tiles.step(dh_before_1)
    del dh_before_1
    dh_before_3 = -dh_before_2 + 1
    del dh_before_2
    dh_before_4 = k * dk_5
    dk_6 = dk_5 * dh_read
    dh_before_5 = tiles.product(dk_5, dh_before_4, dk_6, dh_before_3)
    del dh_before_3, dh_before_4, dk_5
    dh_before_6_rows = scan.Rows(steps, H, True)
    (dh_end,) = scan.flat(dht)
    dh = dh_end[:0]
    for n, (dh_before_5_c, keep__c) in scan.each(steps, H, (dh_before_5, keep_), True):
        if dh.shape[0] < n:
            dh = torch.cat([dh, dh_end[dh.shape[0] : n]])
        dh_before_6 = torch.add(dh, dh_before_5_c, alpha=-0.5)
        dh_before = keep__c * dh_before_6
        dh_before_6_rows.put(dh_before_6)
        dh = dh_before
    dh_end = torch.cat([dh, dh_end[dh.shape[0] :]]) if dh.shape[0] < dh_end.shape[0] else dh
    dh_end = dh_end.unflatten(0, (-1, H))
    dh_before_6 = dh_before_6_rows.joined()
    del dh_before_6_rows
    del dh_before_5
    dk_7 = tiles.product(k, df_1, dh_before_6)
    dkeep = tiles.addcmul_(h * dh_before_6, k_squared, dh_before_6, -1)
    del dh_before_6, k_squared
    df = tiles.product(keep_, df_1, dkeep)
    del df_1, dkeep, keep_
    dk = torch.add(dk_6, dk_7, alpha=2)
    del dk_6, dk_7
    return (dk, df), (dh_end,)


def stage2_chunked_forward(args, valid, h0, steps, keep):
    (q, v, b_, h_read) = args
    H = h0[0].shape[1]
    beta = torch.sigmoid(b_)
    norm2_h_read = tiles.sum_squares(h_read, 3)
    norm2_h_read_eps = norm2_h_read + 1e-06
    del norm2_h_read
    rnorm_h_read = torch.rsqrt(norm2_h_read_eps)
    del norm2_h_read_eps
    h_read_h_read = h_read @ h_read.mT
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_h_read = q @ h_read.mT
    valid_beta = valid * beta
    w_scale = rnorm_h_read * valid_beta
    del valid_beta
    valid_beta_2 = valid * beta
    del beta
    w_scale_2 = rnorm_h_read * valid_beta_2
    del valid_beta_2
    w = w_scale[:, :, :, None] * h_read
    del w_scale
    P = tiles.product(h_read_h_read, (rnorm_h_read * -1)[:, :, :, None], w_scale_2[:, :, None])
    q_h_read_scaled = tiles.product(q_h_read, rnorm_q[:, :, :, None], w_scale_2[:, :, None])
    del w_scale_2
    A = q_h_read_scaled.tril(0)
    del q_h_read_scaled
    inv = tiles.inverse(P)
    del P
    u = tiles.scale_(h_read, rnorm_h_read[:, :, :, None])
    del rnorm_h_read
    q_ = tiles.scale_(q, rnorm_q[:, :, :, None])
    del rnorm_q
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
    return (o,), (S_end,), (S, h_read_h_read, q_h_read, inv, U) if keep else None


stage2_chunked_forward.by_step = (1,)


def stage2_chunked_states(args, valid, h0, steps, keep):
    (q, v, b_, h_read) = args
    H = h0[0].shape[1]
    beta = torch.sigmoid(b_)
    norm2_h_read = tiles.sum_squares(h_read, 3)
    norm2_h_read_eps = norm2_h_read + 1e-06
    del norm2_h_read
    rnorm_h_read = torch.rsqrt(norm2_h_read_eps)
    del norm2_h_read_eps
    h_read_h_read = h_read @ h_read.mT
    q_h_read = q @ h_read.mT
    valid_beta = valid * beta
    w_scale = rnorm_h_read * valid_beta
    del valid_beta
    valid_beta_2 = valid * beta
    del beta
    w_scale_2 = rnorm_h_read * valid_beta_2
    del valid_beta_2
    w = w_scale[:, :, :, None] * h_read
    del w_scale
    P = tiles.product(h_read_h_read, (rnorm_h_read * -1)[:, :, :, None], w_scale_2[:, :, None])
    del w_scale_2
    inv = tiles.inverse(P)
    del P
    u = rnorm_h_read[:, :, :, None] * h_read
    del rnorm_h_read
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
    return (), (S_end,), (S, h_read_h_read, q_h_read, inv, U) if keep else None


stage2_chunked_states.by_step = (1,)


def stage2_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, _, b_, h_read) = args
    if kept is None:
        kept = stage2_chunked_states(args, valid, h0, steps, True)[2]
    (S, h_read_h_read, q_h_read, inv, U) = kept
    (do,) = douts
    H = h0[0].shape[1]
    beta = torch.sigmoid(b_)
    norm2_h_read = tiles.sum_squares(h_read, 3)
    norm2_h_read_eps = norm2_h_read + 1e-06
    del norm2_h_read
    rnorm_h_read = torch.rsqrt(norm2_h_read_eps)
    del norm2_h_read_eps
    u = rnorm_h_read[:, :, :, None] * h_read
    norm2_q = tiles.sum_squares(q, 3)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    dqS = rnorm_q[:, :, :, None] * do
    db_1 = -beta + 1
    valid_beta = valid * beta
    w_scale = rnorm_h_read * valid_beta
    valid_beta_2 = valid * beta
    w_scale_2 = rnorm_h_read * valid_beta_2
    del valid_beta_2
    valid_rnorm_h_read = valid * rnorm_h_read
    dh_read_1 = rnorm_h_read * rnorm_h_read
    rnorm_h_read_cubed = rnorm_h_read * dh_read_1
    del dh_read_1
    rnorm_q_squared = rnorm_q * rnorm_q
    rnorm_q_cubed = rnorm_q_squared * rnorm_q
    del rnorm_q_squared
    q_h_read_scaled = tiles.product(q_h_read, rnorm_q[:, :, :, None], w_scale_2[:, :, None])
    dv_1 = q_h_read_scaled.tril(0)
    del q_h_read_scaled
    do_U = do @ U.mT
    dq_h_read_scaled = do_U.tril(0)
    del do_U
    dq_1 = q_h_read * dq_h_read_scaled
    dq_2 = w_scale_2[:, :, None] * dq_1
    db_2 = tiles.scale_(dq_1, rnorm_q[:, :, :, None])
    del dq_1
    db_3 = db_2.sum(2)
    del db_2
    dq_3 = dq_2.sum(3)
    del dq_2
    dq_4 = w_scale_2[:, :, None] * dq_h_read_scaled
    dh_read_2 = rnorm_q[:, :, :, None] * dq_h_read_scaled
    del dq_h_read_scaled
    dq_5 = tiles.scale_(dq_4, rnorm_q[:, :, :, None])
    del dq_4
    dh_read_3 = tiles.scale_(dh_read_2, w_scale[:, :, None])
    del dh_read_2
    w = w_scale[:, :, :, None] * h_read
    do_S_rows = scan.Rows(steps, H, True)
    dw_rows = scan.Rows(steps, H, True)
    dv_rows = scan.Rows(steps, H, True)
    dh_read_4_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        w_c,
        dv_1_c,
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
            dv_1.mT,
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
        dv_2 = scan.addmm(torch.bmm(w_c, dS), dv_1_c, do_c)
        dv = torch.bmm(inv_c, dv_2, out=dv_rows.room(n))
        dw = torch.bmm(U_c, dS.mT, out=dw_rows.room(n))
        do_S = torch.bmm(do_c, S_c, out=do_S_rows.room(n))
        dh_read_4 = torch.bmm(dv, S_c, out=dh_read_4_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own), q_c, dqS_c)
        dS_before = scan.addmm(dS_before, u_c, dv, -1)
        do_S_rows.put(do_S)
        dw_rows.put(dw)
        dv_rows.put(dv)
        dh_read_4_rows.put(dh_read_4)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    do_S = do_S_rows.joined()
    dw = dw_rows.joined()
    dv = dv_rows.joined()
    dh_read_4 = dh_read_4_rows.joined()
    del do_S_rows
    del dw_rows
    del dv_rows
    del dh_read_4_rows
    del dqS, dv_1, u, w
    h_read_dw = h_read * dw
    h_read_dw_sum = h_read_dw.sum(3)
    del h_read_dw
    db_4 = tiles.product(db_1, h_read_dw_sum, w_scale)
    q_do_S = q * do_S
    q_do_S_sum = q_do_S.sum(3)
    del q_do_S
    dq_6 = q_do_S_sum + dq_3
    del dq_3, q_do_S_sum
    dq_7 = rnorm_q_cubed * dq_6
    del dq_6, rnorm_q_cubed
    dq = tiles.addcmul_(rnorm_q[:, :, :, None] * do_S, dq_7[:, :, :, None], q, -1)
    dq = tiles.addmm_(dq, dq_5, h_read)
    del do_S, dq_5, dq_7, rnorm_q
    dh_read_5 = dv @ U.mT
    dh_read_6 = dh_read_5.tril(-1)
    del dh_read_5
    db_5 = h_read_h_read * dh_read_6
    dh_read_7 = w_scale_2[:, :, None] * db_5
    dh_read_8 = dh_read_7.sum(3)
    del dh_read_7
    db_6 = tiles.scale_(db_5, rnorm_h_read[:, :, :, None])
    del db_5
    db_7 = db_6.sum(2)
    del db_6
    dh_read_9 = w_scale_2[:, :, None] * dh_read_6
    del w_scale_2
    dh_read_10 = rnorm_h_read[:, :, :, None] * dh_read_6
    del dh_read_6
    db_8 = tiles.addcmul_(db_3 * valid_rnorm_h_read, db_7, valid_rnorm_h_read, -1)
    del valid_rnorm_h_read
    db_9 = tiles.product(beta, db_1, db_8)
    del beta, db_1, db_8
    dh_read_11 = tiles.addcmul_(-dh_read_8, h_read_dw_sum, valid_beta)
    del dh_read_8, h_read_dw_sum
    dh_read_12 = tiles.scale_(dh_read_9, rnorm_h_read[:, :, :, None])
    del dh_read_9
    db = db_9 + db_4
    del db_4, db_9
    dh_read_13 = h_read * dh_read_4
    dh_read_14 = dh_read_13.sum(3)
    del dh_read_13
    dh_read_15 = tiles.addcmul_(-dh_read_14, db_3, valid_beta)
    dh_read_15 = tiles.addcmul_(dh_read_15, db_7, valid_beta, -1)
    del db_3, db_7, dh_read_14, valid_beta
    dh_read_16 = tiles.addcmul_(dh_read_11 * -1 * rnorm_h_read_cubed, dh_read_15, rnorm_h_read_cubed, -1)
    del dh_read_11, dh_read_15, rnorm_h_read_cubed
    dh_read_17 = torch.addcmul(-dh_read_12.permute(0, 1, 3, 2), w_scale[:, :, None], dh_read_10, value=-1)
    del dh_read_10, dh_read_12
    dh_read = tiles.addcmul_(w_scale[:, :, :, None] * dw, dh_read_16[:, :, :, None], h_read)
    dh_read = tiles.addcmul_(dh_read, rnorm_h_read[:, :, :, None], dh_read_4, -1)
    dh_read = tiles.addmm_(tiles.addmm_(dh_read, dh_read_3.mT, q), dh_read_17.mT, h_read)
    del dh_read_16, dh_read_17, dh_read_3, dh_read_4, dw, rnorm_h_read, w_scale
    return (dq, dv, db, dh_read), (dS_end,)


stage2_chunked_backward.unread = (1,)


def stage2_recurrent_forward(args, valid, h0, steps, keep):
    (q, v, b_, h_read) = args
    H = h0[0].shape[1]
    norm2_h_read = tiles.sum_squares(h_read, 2)
    norm2_h_read_eps = norm2_h_read + 1e-06
    del norm2_h_read
    rnorm_h_read = torch.rsqrt(norm2_h_read_eps)
    del norm2_h_read_eps
    f = (rnorm_h_read * -1)[:, :, None] * h_read
    beta = torch.sigmoid(b_)
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    del rnorm_q
    w_scale = rnorm_h_read * beta
    del beta, rnorm_h_read
    w = w_scale[:, :, None] * h_read
    del w_scale
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
    (_, v, b_, h_read) = args
    H = h0[0].shape[1]
    norm2_h_read = tiles.sum_squares(h_read, 2)
    norm2_h_read_eps = norm2_h_read + 1e-06
    del norm2_h_read
    rnorm_h_read = torch.rsqrt(norm2_h_read_eps)
    del norm2_h_read_eps
    f = (rnorm_h_read * -1)[:, :, None] * h_read
    beta = torch.sigmoid(b_)
    w_scale = rnorm_h_read * beta
    del beta, rnorm_h_read
    w = w_scale[:, :, None] * h_read
    del w_scale
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
    (q, v, b_, h_read) = args
    if kept is None:
        kept = stage2_recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    norm2_h_read = tiles.sum_squares(h_read, 2)
    norm2_h_read_eps = norm2_h_read + 1e-06
    del norm2_h_read
    rnorm_h_read = torch.rsqrt(norm2_h_read_eps)
    del norm2_h_read_eps
    f = (rnorm_h_read * -1)[:, :, None] * h_read
    fS = (f[..., None, :] @ S).squeeze(-2)
    del f
    u_ = v + fS
    del fS
    beta = torch.sigmoid(b_)
    norm2_q = tiles.sum_squares(q, 2)
    norm2_q_eps = norm2_q + 1e-06
    del norm2_q
    rnorm_q = torch.rsqrt(norm2_q_eps)
    del norm2_q_eps
    q_ = rnorm_q[:, :, None] * q
    db_1 = -beta + 1
    w_scale = rnorm_h_read * beta
    dS_before_1 = rnorm_h_read * w_scale
    dq_1 = (w_scale[:, :, None] * h_read)[:, :, :, None] * u_[:, :, None]
    dq_2 = S + dq_1
    del dq_1
    dq_ = (do[..., None, :] @ dq_2.mT).squeeze(-2)
    del dq_2
    dS_before_2 = do[:, :, None] * q_[:, :, :, None]
    del q_
    q_dq = q * dq_
    drnorm_q = q_dq.sum(2)
    del q_dq
    dnorm2_q_eps = tiles.product(rnorm_q, rnorm_q, rnorm_q, drnorm_q, -0.5)
    del drnorm_q
    dq = tiles.addcmul_(rnorm_q[:, :, None] * dq_, dnorm2_q_eps[:, :, None], q, 2)
    del dnorm2_q_eps, dq_, rnorm_q
    h_read_scaled = dS_before_1[:, :, None] * h_read
    del dS_before_1
    du_1_rows = scan.Rows(steps, H, True)
    du_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dS_before_2_c,
        h_read_c,
        h_read_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_2,
            h_read,
            h_read_scaled[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        du_1 = dS + dS_before_2_c
        du_2 = h_read_c[:, :, None] * du_1
        du_3 = torch.sum(du_2, 1, out=du_3_rows.room(n))
        dS_before = tiles.addcmul_(scan.scale(dS, 1, own) + dS_before_2_c, h_read_scaled_c, du_3[:, None], -1)
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
    del dS_before_2, h_read_scaled
    dh_read_1 = u_[:, :, None] * du_1
    del du_1
    dh_read_2 = dh_read_1.sum(3)
    del dh_read_1
    db_2 = u_ * du_3
    del u_
    db_3 = db_2.sum(2)
    del db_2
    dv = w_scale[:, :, None] * du_3
    del du_3
    db = tiles.product(db_3, db_1, w_scale)
    del db_1
    df = (dv[..., None, :] @ S.mT).squeeze(-2)
    h_read_df = h_read * df
    h_read_df_sum = h_read_df.sum(2)
    del h_read_df
    drnorm_h_read = tiles.addcmul_(-h_read_df_sum, beta, db_3)
    del beta, db_3, h_read_df_sum
    dnorm2_h_read_eps = tiles.product(rnorm_h_read, rnorm_h_read, rnorm_h_read, drnorm_h_read, -0.5)
    del drnorm_h_read
    dh_read = tiles.addcmul_(w_scale[:, :, None] * dh_read_2, dnorm2_h_read_eps[:, :, None], h_read, 2)
    dh_read = tiles.addcmul_(dh_read, rnorm_h_read[:, :, None], df, -1)
    del df, dh_read_2, dnorm2_h_read_eps, rnorm_h_read, w_scale
    return (dq, dv, db, dh_read), (dS_end,)
