"""abc: generated from its spec by rnnc; do not edit.

Stage 1

z[t] = z[t-1] + w
z_read[t] = z[t]
  w = exp(max(min(s, 32), -32))

In a chunk of C tokens with the incoming state z_in:
  v = w
  z[i] = z_in + sum_{j <= i} v[j]
  z_out = z_in + sum_j v[j]

Stage 2

A[t] = A[t-1] + k @ phi.T
p[t] = softmax(K**-0.5 * (A[t].T @ q), M)
  w = exp(max(min(s, 32), -32))
  phi = w / max(z_read, w)

In a chunk of C tokens with the incoming state A_in:
  w_ = k,  v = phi
  A_[i,j] = q[i]^T w_[j],  j <= i
  r = A_ v + q A_in
  A_out = A_in + w_^T v

Stage 3

B[t] = B[t-1] + phi @ v.T
o[t] = B[t].T @ p
  w = exp(max(min(s, 32), -32))
  phi = w / max(z_read, w)

In a chunk of C tokens with the incoming state B_in:
  w_ = phi
  q = p
  A[i,j] = q[i]^T w_[j],  j <= i
  r = A v + q B_in
  B_out = B_in + w_^T v
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
    w = torch.exp(max_min_s)
    del max_min_s
    log2_D = valid[:, :, :, None] * w
    del w
    log2_G = tiles.prefix_sum(log2_D, 2)
    log2_G_C = log2_D.sum(2)
    del log2_D
    z_rows = scan.Rows(steps, H)
    z_read_rows = scan.Rows(steps, H)
    (z,) = scan.flat(h0)
    z_done = []
    own = False
    for n, (log2_G_c, log2_G_C_c) in scan.each(steps, H, (log2_G, log2_G_C)):
        if z.shape[0] > n:
            z_done.append(z[n:])
            z = z[:n]
        if keep:
            z_rows.put(z)
        z_ = z[:, None].expand(-1, C, -1)
        z_read = z_ + log2_G_c
        z_new = scan.scale(z, 1, own, z_rows if keep else None)
        z_new = z_new + log2_G_C_c
        z_read_rows.put(z_read)
        z = z_new
        own = True
    z_end = torch.cat([z, *reversed(z_done)]) if z_done else z
    z_end = z_end.unflatten(0, (-1, H))
    z_read = z_read_rows.joined()
    if keep:
        z = z_rows.joined()
    del z_rows
    del z_read_rows
    del log2_G, log2_G_C
    return (z_read,), (z_end,), (z,) if keep else None


def stage1_chunked_states(args, valid, h0, steps, keep):
    (s,) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    log2_D = valid[:, :, :, None] * w
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
    (_,) = kept
    (dz_read,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
    w_scaled = valid[:, :, :, None] * w
    del w
    dw_scaled_1 = tiles.suffix_sum(dz_read, 2)
    dz_read_sum = dz_read.sum(2)
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
    dz_rows = scan.Rows(steps, H, True)
    (dz_end,) = scan.flat(dht)
    dz = dz_end[:0]
    own = False
    for n, (dz_read_sum_c,) in scan.each(steps, H, (dz_read_sum,), True):
        if dz.shape[0] < n:
            dz = torch.cat([dz, dz_end[dz.shape[0] : n]])
        dz_rows.put(dz)
        dz_before = scan.scale(dz, 1, own, dz_rows) + dz_read_sum_c
        dz = dz_before
        own = True
    dz_end = torch.cat([dz, dz_end[dz.shape[0] :]]) if dz.shape[0] < dz_end.shape[0] else dz
    dz_end = dz_end.unflatten(0, (-1, H))
    dz = dz_rows.joined()
    del dz_rows
    del dz_read_sum
    dz_ = dz[:, :, None].expand(-1, -1, C, -1)
    del dz
    dw_scaled = dz_ + dw_scaled_1
    del dw_scaled_1, dz_
    ds = tiles.product(dw_scaled, ds_3, ds_6, w_scaled)
    del ds_3, ds_6, dw_scaled, w_scaled
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
    z_read_rows = scan.Rows(steps, H)
    (z,) = scan.flat(h0)
    z_done = []
    own = False
    for n, (w_c,) in scan.each(steps, H, (w,)):
        if z.shape[0] > n:
            z_done.append(z[n:])
            z = z[:n]
        if keep:
            z_rows.put(z)
        z_read = scan.scale(z, 1, own, z_rows if keep else None)
        z_read = z_read + w_c
        z_read_rows.put(z_read)
        z = z_read
        own = True
    z_end = torch.cat([z, *reversed(z_done)]) if z_done else z
    z_end = z_end.unflatten(0, (-1, H))
    z_read = z_read_rows.joined()
    if keep:
        z = z_rows.joined()
    del z_rows
    del z_read_rows
    del w
    return (z_read,), (z_end,), (z,) if keep else None


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
        z_read = scan.scale(z, 1, own, z_rows if keep else None)
        z_read = z_read + w_c
        z = z_read
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
    (_,) = kept
    (dz_read,) = douts
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
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
    dz_before_rows = scan.Rows(steps, H, True)
    (dz_end,) = scan.flat(dht)
    dz = dz_end[:0]
    own = False
    for n, (dz_read_c,) in scan.each(steps, H, (dz_read,), True):
        if dz.shape[0] < n:
            dz = torch.cat([dz, dz_end[dz.shape[0] : n]])
        dz_before = scan.scale(dz, 1, own) + dz_read_c
        dz_before_rows.put(dz_before)
        dz = dz_before
        own = True
    dz_end = torch.cat([dz, dz_end[dz.shape[0] :]]) if dz.shape[0] < dz_end.shape[0] else dz
    dz_end = dz_end.unflatten(0, (-1, H))
    dz_before = dz_before_rows.joined()
    del dz_before_rows
    ds = tiles.product(w, dz_before, ds_3, ds_6)
    del ds_3, ds_6, dz_before, w
    return (ds,), (dz_end,)


def stage2_chunked_forward(args, valid, h0, steps, keep):
    (q, k, s, z_read) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    k_scaled = valid[:, :, :, None] * k
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
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
    del A_, k_scaled, phi
    return (p,), (A_end,), (A, qk) if keep else None


def stage2_chunked_states(args, valid, h0, steps, keep):
    (q, k, s, z_read) = args
    H = h0[0].shape[1]
    k_scaled = valid[:, :, :, None] * k
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
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
    del k_scaled, phi
    return (), (A_end,), (A, qk) if keep else None


def stage2_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, s, z_read) = args
    if kept is None:
        kept = stage2_chunked_states(args, valid, h0, steps, True)[2]
    (A, qk) = kept
    (dp,) = douts
    K = q.shape[3]
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    qk_scaled = valid[:, :, None] * qk
    A_ = qk_scaled.tril(0)
    del qk_scaled
    rsqrt_K = (K) ** -0.5
    dw_1 = w - z_read
    dw_2 = tiles.step(dw_1)
    del dw_1
    dz_read_1 = -dw_2 + 1
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
    dA_1 = tiles.addmm_(q @ A, A_, phi)
    dA_2 = dA_1 * rsqrt_K
    del dA_1
    dA_3 = torch.softmax(dA_2, 3)
    del dA_2
    dA_4 = dp * dA_3
    dA_5 = dA_4.sum(3)
    del dA_4
    dA_6 = dp - dA_5[:, :, :, None]
    del dA_5
    dA_7 = dA_3 * dA_6
    del dA_3, dA_6
    dA_8 = dA_7 @ phi.mT
    dA_ = dA_8 * rsqrt_K
    del dA_8
    dz_read_2 = A_.mT @ dA_7
    del A_
    dqk_scaled = dA_.tril(0)
    del dA_
    dqk = valid[:, :, None] * dqk_scaled
    dw_3 = phi_1 * phi
    ds_7 = w * ds_3
    del ds_3, w
    ds_8 = ds_6 * ds_7
    del ds_6, ds_7
    dz_read_3 = dz_read_2 * dw_3
    dz_read_4 = dz_read_3 * rsqrt_K
    del dz_read_3
    ds_9 = tiles.product(phi_1, dz_read_2, rsqrt_K)
    del dz_read_2
    ds_10 = torch.addcmul(ds_9, dw_2, dz_read_4, value=-1)
    del ds_9
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
    del dA_7, phi
    dw_4 = tiles.product(phi_1, k_dA, valid[:, :, :, None])
    del phi_1
    dw_5 = k_dA * dw_3
    del dw_3, k_dA
    dw_6 = valid[:, :, :, None] * dw_5
    del dw_5
    dw = torch.addcmul(dw_4, dw_2, dw_6, value=-1)
    del dw_2, dw_4
    dz_read = tiles.addcmul_(dz_read_1 * -1 * dw_6, dz_read_1, dz_read_4, -1)
    del dw_6, dz_read_1, dz_read_4
    ds = tiles.addcmul_(dw * ds_8, ds_10, ds_8)
    del ds_10, ds_8, dw
    dk = tiles.addmm_(valid[:, :, :, None] * dk_scaled, dqk_scaled_scaled.mT, q)
    del dk_scaled, dqk_scaled_scaled
    return (dq, dk, ds, dz_read), (dA_end,)


def stage2_recurrent_forward(args, valid, h0, steps, keep):
    (q, k, s, z_read) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
    rsqrt_K = (K) ** -0.5
    A_new_1 = k[:, :, :, None] * phi[:, :, None]
    del phi
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
    (_, k, s, z_read) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
    A_new_1 = k[:, :, :, None] * phi[:, :, None]
    del phi
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
    (q, k, s, z_read) = args
    if kept is None:
        kept = stage2_recurrent_states(args, valid, h0, steps, True)[2]
    (A,) = kept
    (dp,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    rsqrt_K = (K) ** -0.5
    dz_read_1 = w - z_read
    dz_read_2 = tiles.step(dz_read_1)
    del dz_read_1
    dz_read_3 = -dz_read_2 + 1
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
    dq_1 = torch.addcmul(A, k[:, :, :, None], phi[:, :, None])
    dq_2 = (q[..., None, :] @ dq_1).squeeze(-2)
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
    dk = dA_before_scaled.sum(3)
    del dA_before_scaled
    dA_before_scaled_2 = k[:, :, :, None] * dA_before
    del dA_before
    dw_1 = dA_before_scaled_2.sum(2)
    del dA_before_scaled_2
    dw_2 = phi_1 * dw_1
    del dw_1, phi_1
    dz_read_4 = phi * dw_2
    del phi
    dz_read = dz_read_3 * dz_read_4 * -1
    del dz_read_3
    dw = torch.addcmul(dw_2, dz_read_2, dz_read_4, value=-1)
    del dw_2, dz_read_2, dz_read_4
    ds = tiles.product(w, dw, ds_3, ds_6)
    del ds_3, ds_6, dw, w
    return (dq, dk, ds, dz_read), (dA_end,)


def stage3_chunked_forward(args, valid, h0, steps, keep):
    (v, s, z_read, p) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
    p_phi = p @ phi.mT
    p_phi_scaled = valid[:, :, None] * p_phi
    A = p_phi_scaled.tril(0)
    del p_phi_scaled
    phi_ = valid[:, :, :, None] * phi
    del phi
    B_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (p_c, A_c, v_c, phi__c) in scan.each(steps, H, (p, A, v, phi_.mT)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        o = scan.addmm(torch.bmm(p_c, B, out=o_rows.room(n)), A_c, v_c)
        B_new = scan.scale(B, 1, own, B_rows if keep else None)
        B_new = scan.addmm(B_new, phi__c, v_c)
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
    del A, phi_
    return (o,), (B_end,), (B, p_phi) if keep else None


stage3_chunked_forward.by_step = (0,)


def stage3_chunked_states(args, valid, h0, steps, keep):
    (v, s, z_read, p) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
    p_phi = p @ phi.mT
    phi_ = valid[:, :, :, None] * phi
    del phi
    B_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (phi__c, v_c) in scan.each(steps, H, (phi_.mT, v)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, 1, own, B_rows if keep else None)
        B_new = scan.addmm(B_new, phi__c, v_c)
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    if keep:
        B = B_rows.joined()
    del B_rows
    del phi_
    return (), (B_end,), (B, p_phi) if keep else None


stage3_chunked_states.by_step = (0,)


def stage3_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (v, s, z_read, p) = args
    if kept is None:
        kept = stage3_chunked_states(args, valid, h0, steps, True)[2]
    (B, p_phi) = kept
    (do,) = douts
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    do_v = do @ v.mT
    do_v_lower = do_v.tril(0)
    del do_v
    do_v_lower_scaled = valid[:, :, None] * do_v_lower
    do_v_lower_p = do_v_lower.mT @ p
    del do_v_lower
    dw_1 = w - z_read
    dw_2 = tiles.step(dw_1)
    del dw_1
    dz_read_1 = -dw_2 + 1
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
    p_phi_scaled = valid[:, :, None] * p_phi
    p_phi_scaled_lower = p_phi_scaled.tril(0)
    del p_phi_scaled
    dp = tiles.addmm_(do @ B.mT, do_v_lower_scaled, phi)
    del do_v_lower_scaled
    dw_3 = phi_1 * phi
    ds_7 = w * ds_3
    del ds_3, w
    dz_read_2 = do_v_lower_p * dw_3
    ds_8 = ds_6 * ds_7
    del ds_6, ds_7
    dw_4 = valid[:, :, :, None] * phi_1
    del phi_1
    dw_5 = valid[:, :, :, None] * dw_2
    del dw_2
    dz_read_3 = valid[:, :, :, None] * dz_read_1
    del dz_read_1
    ds_9 = tiles.addcmul_(do_v_lower_p * dw_4, dz_read_2, dw_5, -1)
    del do_v_lower_p
    dphi_rows = scan.Rows(steps, H, True)
    phi_dB_rows = scan.Rows(steps, H, True)
    (dB_end,) = scan.flat(dht)
    dB = dB_end[:0]
    own = False
    for n, (v_c, phi_c, p_c, do_c) in scan.each(steps, H, (v, phi, p.mT, do), True):
        if dB.shape[0] < n:
            dB = torch.cat([dB, dB_end[dB.shape[0] : n]])
        dphi = torch.bmm(v_c, dB.mT, out=dphi_rows.room(n))
        phi_dB = torch.bmm(phi_c, dB, out=phi_dB_rows.room(n))
        dB_before = scan.addmm(scan.scale(dB, 1, own), p_c, do_c)
        dphi_rows.put(dphi)
        phi_dB_rows.put(phi_dB)
        dB = dB_before
        own = True
    dB_end = torch.cat([dB, dB_end[dB.shape[0] :]]) if dB.shape[0] < dB_end.shape[0] else dB
    dB_end = dB_end.unflatten(0, (-1, H))
    dphi = dphi_rows.joined()
    phi_dB = phi_dB_rows.joined()
    del dphi_rows
    del phi_dB_rows
    del phi
    dw_6 = dphi * dw_3
    del dw_3
    dw = tiles.addcmul_(dphi * dw_4, dw_6, dw_5, -1)
    del dphi, dw_4, dw_5
    dz_read = tiles.addcmul_(dz_read_2 * -1 * dz_read_3, dw_6, dz_read_3, -1)
    del dw_6, dz_read_2, dz_read_3
    ds = tiles.addcmul_(ds_9 * ds_8, dw, ds_8)
    del ds_8, ds_9, dw
    dv = tiles.addmm_(valid[:, :, :, None] * phi_dB, p_phi_scaled_lower.mT, do)
    del p_phi_scaled_lower, phi_dB
    return (dv, ds, dz_read, dp), (dB_end,)


def stage3_recurrent_forward(args, valid, h0, steps, keep):
    (v, s, z_read, p) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
    B_new_1 = v[:, :, None] * phi[:, :, :, None]
    del phi
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
    (v, s, z_read, _) = args
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    del min_s
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    del phi_1, w
    B_new_1 = v[:, :, None] * phi[:, :, :, None]
    del phi
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
    (v, s, z_read, p) = args
    if kept is None:
        kept = stage3_recurrent_states(args, valid, h0, steps, True)[2]
    (B,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    min_s = torch.minimum(s, torch.as_tensor(32, dtype=s.dtype, device=s.device))
    max_min_s = torch.maximum(min_s, torch.as_tensor(-32, dtype=min_s.dtype, device=min_s.device))
    w = torch.exp(max_min_s)
    del max_min_s
    max_z_read = torch.maximum(z_read, w)
    phi_1 = torch.reciprocal(max_z_read)
    del max_z_read
    phi = w * phi_1
    dB_before_1 = p[:, :, :, None] * do[:, :, None]
    dz_read_1 = w - z_read
    dz_read_2 = tiles.step(dz_read_1)
    del dz_read_1
    dz_read_3 = -dz_read_2 + 1
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
    dp_1 = torch.addcmul(B, v[:, :, None], phi[:, :, :, None])
    dp = (do[..., None, :] @ dp_1.mT).squeeze(-2)
    del dp_1
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
    dB_before_scaled = v[:, :, None] * dB_before
    dw_1 = dB_before_scaled.sum(3)
    del dB_before_scaled
    dw_2 = phi_1 * dw_1
    del dw_1, phi_1
    dz_read_4 = phi * dw_2
    dB_before_scaled_2 = phi[:, :, :, None] * dB_before
    del dB_before, phi
    dv = dB_before_scaled_2.sum(2)
    del dB_before_scaled_2
    dz_read = dz_read_3 * dz_read_4 * -1
    del dz_read_3
    dw = torch.addcmul(dw_2, dz_read_2, dz_read_4, value=-1)
    del dw_2, dz_read_2, dz_read_4
    ds = tiles.product(w, dw, ds_3, ds_6)
    del ds_3, ds_6, dw, w
    return (dv, ds, dz_read, dp), (dB_end,)
