"""abc: generated from its spec by rnnc; do not edit.

Stage 1

z[t] = z[t-1] + w
phi[t] = w / max(z[t], w)
  w = exp(max(min(s, 32), -32))

In a chunk of C tokens with the incoming state z_in:
  v = w
  z[i] = z_in + sum_{j <= i} v[j]
  z_out = z_in + sum_j v[j]

Stage 2

A[t] = A[t-1] + k @ phi.T
p[t] = softmax(K**-0.5 * (A[t].T @ q), M)

In a chunk of C tokens with the incoming state A_in:
  w = k,  v = phi
  A_[i,j] = q[i]^T w[j],  j <= i
  r = A_ v + q A_in
  A_out = A_in + w^T v

Stage 3

B[t] = B[t-1] + phi @ v.T
o[t] = B[t].T @ p

In a chunk of C tokens with the incoming state B_in:
  w = phi
  q = p
  A[i,j] = q[i]^T w[j],  j <= i
  r = A v + q B_in
  B_out = B_in + w^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "abc"
SPEC_HASH = "36fa17375c2e9fcf8374f108cdc9e05f16def20f64a93cdf5d9db3ce66eed220"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("s", ("M",)))
PARAMS = ()
STATES = (("z", ("M",)), ("A", ("K", "M")), ("B", ("M", "V")))
OUTPUTS = (("o", ("V",)),)


def stage1_chunked_forward(args, valid, h0, steps, keep):
    (s,) = args
    C = valid.shape[2]
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = tiles.apply_(torch.exp_, max_min_s)
    del max_min_s
    log2_D = valid[:, :, :, None] * w
    log2_G = tiles.prefix_sum(log2_D, 2)
    log2_G_C = log2_D.sum(2)
    del log2_D
    z_rows = scan.Rows(steps, H)
    phi_rows = scan.Rows(steps, H)
    (z,) = scan.flat(h0)
    z_done = []
    own = False
    for n, (log2_G_c, w_c, log2_G_C_c) in scan.each(steps, H, (log2_G, w, log2_G_C)):
        if z.shape[0] > n:
            z_done.append(z[n:])
            z = z[:n]
        if keep:
            z_rows.put(z)
        z_ = z[:, None].expand(-1, C, -1)
        phi_1 = z_ + log2_G_c
        phi_2 = torch.maximum(phi_1, w_c)
        phi_3 = torch.reciprocal(phi_2)
        phi = w_c * phi_3
        z_new = scan.scale(z, 1, own, z_rows if keep else None)
        z_new = z_new + log2_G_C_c
        phi_rows.put(phi)
        z = z_new
        own = True
    z_end = torch.cat([z, *reversed(z_done)]) if z_done else z
    z_end = z_end.unflatten(0, (-1, H))
    phi = phi_rows.joined()
    if keep:
        z = z_rows.joined()
    del z_rows
    del phi_rows
    del log2_G, log2_G_C, w
    return (phi,), (z_end,), (z,) if keep else None


def stage1_chunked_states(args, valid, h0, steps, keep):
    (s,) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = tiles.apply_(torch.exp_, max_min_s)
    del max_min_s
    log2_D = tiles.scale_(w, valid[:, :, :, None])
    del w
    log2_G_C = log2_D.sum(2)
    del log2_D
    z_rows = scan.Rows(steps, H)
    (z,) = scan.flat(h0)
    z_done = []
    own = False
    for n, (log2_G_C_c,) in scan.each(steps, H, (log2_G_C,)):
        if z.shape[0] > n:
            z_done.append(z[n:])
            z = z[:n]
        if keep:
            z_rows.put(z)
        z_new = scan.scale(z, 1, own, z_rows if keep else None)
        z_new = z_new + log2_G_C_c
        z = z_new
        own = True
    z_end = torch.cat([z, *reversed(z_done)]) if z_done else z
    z_end = z_end.unflatten(0, (-1, H))
    if keep:
        z = z_rows.joined()
    del z_rows
    del log2_G_C
    return (), (z_end,), (z,) if keep else None


def stage1_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (s,) = args
    if kept is None:
        kept = stage1_chunked_states(args, valid, h0, steps, True)[2]
    (z,) = kept
    (dphi,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = tiles.apply_(torch.exp_, max_min_s)
    del max_min_s
    log2_D = valid[:, :, :, None] * w
    z_ = z[:, :, None].expand(-1, -1, C, -1)
    log2_G = tiles.prefix_sum(log2_D, 2)
    del log2_D
    dw_1 = z_ + log2_G
    dw_2 = torch.maximum(dw_1, w)
    del dw_1
    dw_3 = tiles.apply_(torch.reciprocal_, dw_2)
    del dw_2
    dw_4 = w * dw_3
    dw_5 = tiles.product_(dw_3, dphi)
    del dw_3
    dw_6 = w - z_ - log2_G
    del log2_G, z_
    dw_7 = tiles.step(dw_6)
    del dw_6
    dz_before_1 = -dw_7 + 1
    ds_1 = -min_s + -32
    del min_s
    ds_2 = tiles.step(ds_1)
    del ds_1
    ds_3 = -ds_2 + 1
    del ds_2
    ds_4 = s + -32
    ds_5 = tiles.step(ds_4)
    del ds_4
    ds_6 = -ds_5 + 1
    del ds_5
    dw_8 = tiles.product_(dw_4, dw_5)
    del dw_4
    dz_before_2 = tiles.product_(dz_before_1, dw_8)
    del dz_before_1
    dlog2_D_1 = dz_before_2 * -1
    dlog2_D_2 = tiles.suffix_sum(dlog2_D_1, 2)
    del dlog2_D_1
    dz_before_3 = dz_before_2.sum(2)
    del dz_before_2
    dz_rows = scan.Rows(steps, H, True)
    (dz_end,) = scan.flat(dht)
    dz = dz_end[:0]
    own = False
    for n, (dz_before_3_c,) in scan.each(steps, H, (dz_before_3,), True):
        if dz.shape[0] < n:
            dz = torch.cat([dz, dz_end[dz.shape[0] : n]])
        dz_rows.put(dz)
        dz_before = scan.scale(dz, 1, own, dz_rows) - dz_before_3_c
        dz = dz_before
        own = True
    dz_end = torch.cat([dz, dz_end[dz.shape[0] :]]) if dz.shape[0] < dz_end.shape[0] else dz
    dz_end = dz_end.unflatten(0, (-1, H))
    dz = dz_rows.joined()
    del dz_rows
    del dz_before_3
    dz_ = dz[:, :, None].expand(-1, -1, C, -1)
    del dz
    dlog2_D = dz_ + dlog2_D_2
    del dlog2_D_2, dz_
    dw = torch.addcmul(dw_5, valid[:, :, :, None], dlog2_D)
    dw = tiles.addcmul_(dw, dw_7, dw_8, -1)
    del dlog2_D, dw_5, dw_7, dw_8
    ds = tiles.product_(w, dw, ds_3, ds_6)
    del ds_3, ds_6, dw, w
    return (ds,), (dz_end,)


def stage1_recurrent_forward(args, valid, h0, steps, keep):
    (s,) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    z_rows = scan.Rows(steps, H)
    phi_rows = scan.Rows(steps, H)
    (z,) = scan.flat(h0)
    z_done = []
    own = False
    for n, (w_c,) in scan.each(steps, H, (w,)):
        if z.shape[0] > n:
            z_done.append(z[n:])
            z = z[:n]
        if keep:
            z_rows.put(z)
        z_new = scan.scale(z, 1, own, z_rows if keep else None)
        z_new = z_new + w_c
        max_z_new = torch.maximum(z_new, w_c)
        one_over_max_z_new = torch.reciprocal(max_z_new)
        phi = w_c * one_over_max_z_new
        phi_rows.put(phi)
        z = z_new
        own = True
    z_end = torch.cat([z, *reversed(z_done)]) if z_done else z
    z_end = z_end.unflatten(0, (-1, H))
    phi = phi_rows.joined()
    if keep:
        z = z_rows.joined()
    del z_rows
    del phi_rows
    del w
    return (phi,), (z_end,), (z,) if keep else None


def stage1_recurrent_states(args, valid, h0, steps, keep):
    (s,) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    z_rows = scan.Rows(steps, H)
    (z,) = scan.flat(h0)
    z_done = []
    own = False
    for n, (w_c,) in scan.each(steps, H, (w,)):
        if z.shape[0] > n:
            z_done.append(z[n:])
            z = z[:n]
        if keep:
            z_rows.put(z)
        z_new = scan.scale(z, 1, own, z_rows if keep else None)
        z_new = z_new + w_c
        z = z_new
        own = True
    z_end = torch.cat([z, *reversed(z_done)]) if z_done else z
    z_end = z_end.unflatten(0, (-1, H))
    if keep:
        z = z_rows.joined()
    del z_rows
    del w
    return (), (z_end,), (z,) if keep else None


def stage1_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (s,) = args
    if kept is None:
        kept = stage1_recurrent_states(args, valid, h0, steps, True)[2]
    (z,) = kept
    (dphi,) = douts
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
    dw_1 = z + w
    dw_2 = torch.maximum(dw_1, w)
    del dw_1
    dw_3 = torch.reciprocal(dw_2)
    del dw_2
    dz_before_1 = w * dw_3
    dw_4 = dw_3 * dphi
    del dw_3
    z_scaled = z * -1
    step_z_scaled = tiles.step(z_scaled)
    del z_scaled
    dz_before_2 = -step_z_scaled + 1
    ds_1 = -min_s + -32
    del min_s
    ds_2 = tiles.step(ds_1)
    del ds_1
    ds_3 = -ds_2 + 1
    del ds_2
    ds_4 = s + -32
    ds_5 = tiles.step(ds_4)
    del ds_4
    ds_6 = -ds_5 + 1
    del ds_5
    dz_before_3 = dz_before_1 * dw_4
    del dz_before_1
    dz_before_4 = dz_before_2 * dz_before_3
    del dz_before_2
    dz_rows = scan.Rows(steps, H, True)
    (dz_end,) = scan.flat(dht)
    dz = dz_end[:0]
    own = False
    for n, (dz_before_4_c,) in scan.each(steps, H, (dz_before_4,), True):
        if dz.shape[0] < n:
            dz = torch.cat([dz, dz_end[dz.shape[0] : n]])
        dz_rows.put(dz)
        dz_before = scan.scale(dz, 1, own, dz_rows) - dz_before_4_c
        dz = dz_before
        own = True
    dz_end = torch.cat([dz, dz_end[dz.shape[0] :]]) if dz.shape[0] < dz_end.shape[0] else dz
    dz_end = dz_end.unflatten(0, (-1, H))
    dz = dz_rows.joined()
    del dz_rows
    dw = tiles.addcmul_(dz + dw_4 - dz_before_4, step_z_scaled, dz_before_3, -1)
    del dw_4, dz, dz_before_3, dz_before_4, step_z_scaled
    ds = tiles.product(w, dw, ds_3, ds_6)
    del ds_3, ds_6, dw, w
    return (ds,), (dz_end,)


def stage2_chunked_forward(args, valid, h0, steps, keep):
    (q, k, phi) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    k_scaled = valid[:, :, :, None] * k
    qk = q @ k.mT
    qk_scaled = valid[:, :, None] * qk
    A_ = qk_scaled.tril(0)
    del qk_scaled
    rsqrt_K = (K) ** -0.5
    A_rows = scan.Rows(steps, H)
    p_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (q_c, A__c, phi_c, k_scaled_c) in scan.each(steps, H, (q, A_, phi, k_scaled.mT)):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        p_1 = scan.addmm(torch.bmm(q_c, A), A__c, phi_c)
        p_2 = p_1 * rsqrt_K
        p = torch.softmax(p_2, 2)
        A_new = scan.scale(A, 1, own, A_rows if keep else None)
        A_new = scan.addmm(A_new, k_scaled_c, phi_c)
        p_rows.put(p)
        A = A_new
        own = True
    A_end = torch.cat([A, *reversed(A_done)]) if A_done else A
    A_end = A_end.unflatten(0, (-1, H))
    p = p_rows.joined()
    if keep:
        A = A_rows.joined()
    del A_rows
    del p_rows
    del A_, k_scaled
    return (p,), (A_end,), (A, qk) if keep else None


stage2_chunked_forward.by_step = (2,)


def stage2_chunked_states(args, valid, h0, steps, keep):
    (q, k, phi) = args
    H = h0[0].shape[1]
    k_scaled = valid[:, :, :, None] * k
    qk = q @ k.mT
    A_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (k_scaled_c, phi_c) in scan.each(steps, H, (k_scaled.mT, phi)):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        A_new = scan.scale(A, 1, own, A_rows if keep else None)
        A_new = scan.addmm(A_new, k_scaled_c, phi_c)
        A = A_new
        own = True
    A_end = torch.cat([A, *reversed(A_done)]) if A_done else A
    A_end = A_end.unflatten(0, (-1, H))
    if keep:
        A = A_rows.joined()
    del A_rows
    del k_scaled
    return (), (A_end,), (A, qk) if keep else None


stage2_chunked_states.by_step = (2,)


def stage2_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, phi) = args
    if kept is None:
        kept = stage2_chunked_states(args, valid, h0, steps, True)[2]
    (A, qk) = kept
    (dp,) = douts
    K = q.shape[3]
    H = h0[0].shape[1]
    qk_scaled = valid[:, :, None] * qk
    A_ = qk_scaled.tril(0)
    del qk_scaled
    dA_1 = tiles.addmm_(q @ A, A_, phi)
    rsqrt_K = (K) ** -0.5
    dA_2 = dA_1 * rsqrt_K
    del dA_1
    dA_3 = torch.softmax(dA_2, 3)
    del dA_2
    dA_4 = dA_3 * dp
    dA_5 = dA_4.sum(3)
    del dA_4
    dA_6 = dp - dA_5[:, :, :, None]
    del dA_5
    dA_7 = tiles.product_(dA_6, dA_3)
    del dA_3, dA_6
    dA_8 = dA_7 @ phi.mT
    dA_ = dA_8 * rsqrt_K
    del dA_8
    dphi_1 = A_.mT @ dA_7
    del A_
    dphi_2 = dphi_1 * rsqrt_K
    del dphi_1
    dqk_scaled = dA_.tril(0)
    del dA_
    dqk = valid[:, :, None] * dqk_scaled
    dqk_scaled_scaled = valid[:, :, None] * dqk_scaled
    del dqk_scaled
    dq = tiles.addmm_(dqk @ k, dA_7, A.mT, rsqrt_K)
    del dqk
    dk_scaled_rows = scan.Rows(steps, H, True)
    k_dA_rows = scan.Rows(steps, H, True)
    (dA_end,) = scan.flat(dht)
    dA = dA_end[:0]
    own = False
    for n, (phi_c, k_c, q_c, dA_7_c) in scan.each(steps, H, (phi, k, q.mT, dA_7), True):
        if dA.shape[0] < n:
            dA = torch.cat([dA, dA_end[dA.shape[0] : n]])
        dk_scaled = torch.bmm(phi_c, dA.mT, out=dk_scaled_rows.room(n))
        k_dA = torch.bmm(k_c, dA, out=k_dA_rows.room(n))
        dA_before = scan.addmm(scan.scale(dA, 1, own), q_c, dA_7_c, rsqrt_K)
        dk_scaled_rows.put(dk_scaled)
        k_dA_rows.put(k_dA)
        dA = dA_before
        own = True
    dA_end = torch.cat([dA, dA_end[dA.shape[0] :]]) if dA.shape[0] < dA_end.shape[0] else dA
    dA_end = dA_end.unflatten(0, (-1, H))
    dk_scaled = dk_scaled_rows.joined()
    k_dA = k_dA_rows.joined()
    del dk_scaled_rows
    del k_dA_rows
    del dA_7
    dphi = torch.addcmul(dphi_2, valid[:, :, :, None], k_dA)
    del dphi_2, k_dA
    dk = tiles.addmm_(valid[:, :, :, None] * dk_scaled, dqk_scaled_scaled.mT, q)
    del dk_scaled, dqk_scaled_scaled
    return (dq, dk, dphi), (dA_end,)


def stage2_recurrent_forward(args, valid, h0, steps, keep):
    (q, k, phi) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    A_new_1 = k[:, :, :, None] * phi[:, :, None]
    rsqrt_K = (K) ** -0.5
    A_rows = scan.Rows(steps, H)
    p_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (A_new_1_c, q_c) in scan.each(steps, H, (A_new_1, q)):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        A_new = scan.scale(A, 1, own, A_rows if keep else None)
        A_new = A_new + A_new_1_c
        q_A_new = (q_c[..., None, :] @ A_new).squeeze(-2)
        q_A_new_scaled = q_A_new * rsqrt_K
        p = torch.softmax(q_A_new_scaled, 1)
        p_rows.put(p)
        A = A_new
        own = True
    A_end = torch.cat([A, *reversed(A_done)]) if A_done else A
    A_end = A_end.unflatten(0, (-1, H))
    p = p_rows.joined()
    if keep:
        A = A_rows.joined()
    del A_rows
    del p_rows
    del A_new_1
    return (p,), (A_end,), (A,) if keep else None


def stage2_recurrent_states(args, valid, h0, steps, keep):
    (_, k, phi) = args
    H = h0[0].shape[1]
    A_new_1 = k[:, :, :, None] * phi[:, :, None]
    A_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (A_new_1_c,) in scan.each(steps, H, (A_new_1,)):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        A_new = scan.scale(A, 1, own, A_rows if keep else None)
        A_new = A_new + A_new_1_c
        A = A_new
        own = True
    A_end = torch.cat([A, *reversed(A_done)]) if A_done else A
    A_end = A_end.unflatten(0, (-1, H))
    if keep:
        A = A_rows.joined()
    del A_rows
    del A_new_1
    return (), (A_end,), (A,) if keep else None


def stage2_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, phi) = args
    if kept is None:
        kept = stage2_recurrent_states(args, valid, h0, steps, True)[2]
    (A,) = kept
    (dp,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    dq_1 = torch.addcmul(A, k[:, :, :, None], phi[:, :, None])
    dq_2 = (q[..., None, :] @ dq_1).squeeze(-2)
    rsqrt_K = (K) ** -0.5
    dq_3 = dq_2 * rsqrt_K
    del dq_2
    dq_4 = torch.softmax(dq_3, 2)
    del dq_3
    dq_5 = dq_4 * dp
    dq_6 = dq_5.sum(2)
    del dq_5
    dq_7 = dp - dq_6[:, :, None]
    del dq_6
    dq_8 = dq_4 * dq_7
    del dq_4, dq_7
    dq_9 = dq_8 * rsqrt_K
    del dq_8
    dq = (dq_9[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    dA_before_1 = q[:, :, :, None] * dq_9[:, :, None]
    del dq_9
    dA_before_rows = scan.Rows(steps, H, True)
    (dA_end,) = scan.flat(dht)
    dA = dA_end[:0]
    own = False
    for n, (dA_before_1_c,) in scan.each(steps, H, (dA_before_1,), True):
        if dA.shape[0] < n:
            dA = torch.cat([dA, dA_end[dA.shape[0] : n]])
        dA_before = scan.scale(dA, 1, own) + dA_before_1_c
        dA_before_rows.put(dA_before)
        dA = dA_before
        own = True
    dA_end = torch.cat([dA, dA_end[dA.shape[0] :]]) if dA.shape[0] < dA_end.shape[0] else dA
    dA_end = dA_end.unflatten(0, (-1, H))
    dA_before = dA_before_rows.joined()
    del dA_before_rows
    del dA_before_1
    dA_before_scaled = phi[:, :, None] * dA_before
    dA_before_scaled_2 = k[:, :, :, None] * dA_before
    del dA_before
    dk = dA_before_scaled.sum(3)
    del dA_before_scaled
    dphi = dA_before_scaled_2.sum(2)
    del dA_before_scaled_2
    return (dq, dk, dphi), (dA_end,)


def stage3_chunked_forward(args, valid, h0, steps, keep):
    (v, phi, p) = args
    H = h0[0].shape[1]
    phi_scaled = valid[:, :, :, None] * phi
    p_phi = p @ phi.mT
    p_phi_scaled = valid[:, :, None] * p_phi
    A = p_phi_scaled.tril(0)
    del p_phi_scaled
    B_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (p_c, A_c, v_c, phi_scaled_c) in scan.each(steps, H, (p, A, v, phi_scaled.mT)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        o = scan.addmm(torch.bmm(p_c, B, out=o_rows.room(n)), A_c, v_c)
        B_new = scan.scale(B, 1, own, B_rows if keep else None)
        B_new = scan.addmm(B_new, phi_scaled_c, v_c)
        o_rows.put(o)
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        B = B_rows.joined()
    del B_rows
    del o_rows
    del A, phi_scaled
    return (o,), (B_end,), (B, p_phi) if keep else None


stage3_chunked_forward.by_step = (0,)


def stage3_chunked_states(args, valid, h0, steps, keep):
    (v, phi, p) = args
    H = h0[0].shape[1]
    phi_scaled = valid[:, :, :, None] * phi
    p_phi = p @ phi.mT
    B_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (phi_scaled_c, v_c) in scan.each(steps, H, (phi_scaled.mT, v)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, 1, own, B_rows if keep else None)
        B_new = scan.addmm(B_new, phi_scaled_c, v_c)
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    if keep:
        B = B_rows.joined()
    del B_rows
    del phi_scaled
    return (), (B_end,), (B, p_phi) if keep else None


stage3_chunked_states.by_step = (0,)


def stage3_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (v, phi, p) = args
    if kept is None:
        kept = stage3_chunked_states(args, valid, h0, steps, True)[2]
    (B, p_phi) = kept
    (do,) = douts
    H = h0[0].shape[1]
    p_phi_scaled = valid[:, :, None] * p_phi
    p_phi_scaled_lower = p_phi_scaled.tril(0)
    del p_phi_scaled
    dp_phi_scaled_lower = do @ v.mT
    dp_phi_scaled = dp_phi_scaled_lower.tril(0)
    del dp_phi_scaled_lower
    dp_phi = valid[:, :, None] * dp_phi_scaled
    dphi_1 = valid[:, :, None] * dp_phi_scaled
    del dp_phi_scaled
    dp = tiles.addmm_(do @ B.mT, dp_phi, phi)
    del dp_phi
    dphi_scaled_rows = scan.Rows(steps, H, True)
    phi_dB_rows = scan.Rows(steps, H, True)
    (dB_end,) = scan.flat(dht)
    dB = dB_end[:0]
    own = False
    for n, (v_c, phi_c, p_c, do_c) in scan.each(steps, H, (v, phi, p.mT, do), True):
        if dB.shape[0] < n:
            dB = torch.cat([dB, dB_end[dB.shape[0] : n]])
        dphi_scaled = torch.bmm(v_c, dB.mT, out=dphi_scaled_rows.room(n))
        phi_dB = torch.bmm(phi_c, dB, out=phi_dB_rows.room(n))
        dB_before = scan.addmm(scan.scale(dB, 1, own), p_c, do_c)
        dphi_scaled_rows.put(dphi_scaled)
        phi_dB_rows.put(phi_dB)
        dB = dB_before
        own = True
    dB_end = torch.cat([dB, dB_end[dB.shape[0] :]]) if dB.shape[0] < dB_end.shape[0] else dB
    dB_end = dB_end.unflatten(0, (-1, H))
    dphi_scaled = dphi_scaled_rows.joined()
    phi_dB = phi_dB_rows.joined()
    del dphi_scaled_rows
    del phi_dB_rows
    dphi = tiles.addmm_(valid[:, :, :, None] * dphi_scaled, dphi_1.mT, p)
    del dphi_1, dphi_scaled
    dv = tiles.addmm_(valid[:, :, :, None] * phi_dB, p_phi_scaled_lower.mT, do)
    del p_phi_scaled_lower, phi_dB
    return (dv, dphi, dp), (dB_end,)


def stage3_recurrent_forward(args, valid, h0, steps, keep):
    (v, phi, p) = args
    H = h0[0].shape[1]
    B_new_1 = v[:, :, None] * phi[:, :, :, None]
    B_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (B_new_1_c, p_c) in scan.each(steps, H, (B_new_1, p)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, 1, own, B_rows if keep else None)
        B_new = B_new + B_new_1_c
        o = (p_c[..., None, :] @ B_new).squeeze(-2)
        o_rows.put(o)
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        B = B_rows.joined()
    del B_rows
    del o_rows
    del B_new_1
    return (o,), (B_end,), (B,) if keep else None


def stage3_recurrent_states(args, valid, h0, steps, keep):
    (v, phi, _) = args
    H = h0[0].shape[1]
    B_new_1 = v[:, :, None] * phi[:, :, :, None]
    B_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (B_new_1_c,) in scan.each(steps, H, (B_new_1,)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, 1, own, B_rows if keep else None)
        B_new = B_new + B_new_1_c
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    if keep:
        B = B_rows.joined()
    del B_rows
    del B_new_1
    return (), (B_end,), (B,) if keep else None


def stage3_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (v, phi, p) = args
    if kept is None:
        kept = stage3_recurrent_states(args, valid, h0, steps, True)[2]
    (B,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    dp_1 = torch.addcmul(B, v[:, :, None], phi[:, :, :, None])
    dp = (do[..., None, :] @ dp_1.mT).squeeze(-2)
    del dp_1
    dB_before_1 = p[:, :, :, None] * do[:, :, None]
    dB_before_rows = scan.Rows(steps, H, True)
    (dB_end,) = scan.flat(dht)
    dB = dB_end[:0]
    own = False
    for n, (dB_before_1_c,) in scan.each(steps, H, (dB_before_1,), True):
        if dB.shape[0] < n:
            dB = torch.cat([dB, dB_end[dB.shape[0] : n]])
        dB_before = scan.scale(dB, 1, own) + dB_before_1_c
        dB_before_rows.put(dB_before)
        dB = dB_before
        own = True
    dB_end = torch.cat([dB, dB_end[dB.shape[0] :]]) if dB.shape[0] < dB_end.shape[0] else dB
    dB_end = dB_end.unflatten(0, (-1, H))
    dB_before = dB_before_rows.joined()
    del dB_before_rows
    del dB_before_1
    dB_before_scaled = phi[:, :, :, None] * dB_before
    dB_before_scaled_2 = v[:, :, None] * dB_before
    del dB_before
    dv = dB_before_scaled.sum(2)
    del dB_before_scaled
    dphi = dB_before_scaled_2.sum(3)
    del dB_before_scaled_2
    return (dv, dphi, dp), (dB_end,)
