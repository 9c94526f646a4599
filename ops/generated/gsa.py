"""gsa: generated from its spec by rnnc; do not edit.

Stage 1

A[t] = alpha * A[t-1] + k @ (1 - alpha).T
p[t] = softmax(K**-0.5 * (A[t].T @ q), M)
  alpha = exp(logsigmoid(a) * 0.125)

In a chunk of C tokens with the incoming state A_in:
  D = alpha
  w = 1 - alpha,  v = k
  G[i] = D[1] * ... * D[i],  G[0] = 1
  B[i,j] = q[i]^T v[j],  j <= i
  r = (B * G[i]/G[j]) w + G * (q A_in)
  A_out^T = G[C] * A_in^T + (w * G[C]/G)^T v

Stage 2

B[t] = alpha * B[t-1] + (1 - alpha) @ v.T
o[t] = B[t].T @ p
  alpha = exp(logsigmoid(a) * 0.125)

In a chunk of C tokens with the incoming state B_in:
  D = alpha
  w = 1 - alpha
  q = p
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q * G) B_in
  B_out = G[C] * B_in + (w * G[C]/G)^T v
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "gsa"
SPEC_HASH = "7ed1f629e2235af41bb2c64c62eaa7a51c2e32288613b5e4b8228fe4cf6d3d73"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("M",)))
PARAMS = ()
STATES = (("A", ("K", "M")), ("B", ("M", "V")))
OUTPUTS = (("o", ("V",)),)


def stage1_chunked_forward(args, valid, h0, steps, keep):
    (q, k, a_) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    w = -alpha + 1
    del alpha
    w_scaled = valid[:, :, :, None] * w
    qk = q @ k.mT
    rsqrt_K = (K) ** -0.5
    log2_D_1 = alpha_1 * tiles.LOG2E
    del alpha_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    w_G_after = tiles.product_(w, G_after)
    del G_after, w
    k_scaled = tiles.scale_(k, valid[:, :, :, None])
    f1 = tiles.decay_factors(log2_D)
    p_1 = tiles.decay_dot_rows(qk, w_scaled, f1)
    del f1, log2_D, w_scaled
    A_rows = scan.Rows(steps, H)
    p_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (
        q_c,
        G_c,
        p_1_c,
        G_C_c,
        k_scaled_c,
        w_G_after_c,
    ) in scan.each(
        steps,
        H,
        (
            q,
            G,
            p_1,
            G_C[:, :, None],
            k_scaled.mT,
            w_G_after,
        ),
    ):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        qA = torch.bmm(q_c, A)
        p_2 = torch.addcmul(p_1_c, qA, G_c)
        p_3 = p_2 * rsqrt_K
        p = torch.softmax(p_3, 2)
        A_new = scan.scale(A, G_C_c, own, A_rows if keep else None)
        A_new = scan.addmm(A_new, k_scaled_c, w_G_after_c)
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
    del G, G_C, k_scaled, p_1, w_G_after
    return (p,), (A_end,), (A, qk) if keep else None


def stage1_chunked_states(args, valid, h0, steps, keep):
    (q, k, a_) = args
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    w = -alpha + 1
    del alpha
    qk = q @ k.mT
    log2_D_1 = alpha_1 * tiles.LOG2E
    del alpha_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    w_G_after = tiles.product_(w, G_after)
    del G_after, w
    k_scaled = valid[:, :, :, None] * k
    A_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (
        G_C_c,
        k_scaled_c,
        w_G_after_c,
    ) in scan.each(
        steps,
        H,
        (
            G_C[:, :, None],
            k_scaled.mT,
            w_G_after,
        ),
    ):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        A_new = scan.scale(A, G_C_c, own, A_rows if keep else None)
        A_new = scan.addmm(A_new, k_scaled_c, w_G_after_c)
        A = A_new
        own = True
    A_end = torch.cat([A, *reversed(A_done)]) if A_done else A
    A_end = A_end.unflatten(0, (-1, H))
    if keep:
        A = A_rows.joined()
    del A_rows
    del G_C, k_scaled, w_G_after
    return (), (A_end,), (A, qk) if keep else None


def stage1_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, a_) = args
    if kept is None:
        kept = stage1_chunked_states(args, valid, h0, steps, True)[2]
    (A, qk) = kept
    (dp,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    w = -alpha + 1
    w_scaled = valid[:, :, :, None] * w
    qA = q @ A
    rsqrt_K = (K) ** -0.5
    log2_D_1 = alpha_1 * tiles.LOG2E
    del alpha_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    qA_G = tiles.product_(qA, G)
    del qA
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    w_G_after = tiles.product_(w, G_after)
    del w
    ln2 = tiles.LN2
    log2e = tiles.LOG2E
    a_scaled = a_ * -1
    sigmoid_a_scaled = tiles.apply_(torch.sigmoid_, a_scaled)
    del a_scaled
    f1 = tiles.decay_factors(log2_D)
    dlog2_G_1 = tiles.decay_dot_rows(qk, w_scaled, f1)
    dlog2_G_2 = qA_G + dlog2_G_1
    del dlog2_G_1
    dlog2_G_3 = dlog2_G_2 * rsqrt_K
    del dlog2_G_2
    dlog2_G_4 = torch.softmax(dlog2_G_3, 3)
    del dlog2_G_3
    dlog2_G_5 = dp * dlog2_G_4
    dlog2_G_6 = dlog2_G_5.sum(3)
    del dlog2_G_5
    dlog2_G_7 = dp - dlog2_G_6[:, :, :, None]
    del dlog2_G_6
    dlog2_G_8 = tiles.product_(dlog2_G_7, dlog2_G_4)
    del dlog2_G_4, dlog2_G_7
    rsqrt_K_ln2 = rsqrt_K * ln2
    alpha_scaled = tiles.scale_(alpha, valid[:, :, :, None])
    del alpha
    dqk_1 = dlog2_G_8 * rsqrt_K
    dlog2_G = tiles.product_(qA_G, dlog2_G_8, rsqrt_K_ln2)
    del qA_G
    dlog2_D_1 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dqk = tiles.decay_dot(dqk_1, w_scaled, f1)
    del log2_D
    _, da_1, dlog2_D_2 = tiles.decay_dot_grads(qk, dqk_1, w_scaled, f1)
    del dqk_1, f1, w_scaled
    dq_1 = tiles.product_(G, dlog2_G_8)
    del G, dlog2_G_8
    da_2 = tiles.product(sigmoid_a_scaled, da_1, alpha_scaled)
    del da_1
    dk_scaled_rows = scan.Rows(steps, H, True)
    k_dA_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    dq_2_rows = scan.Rows(steps, H, True)
    (dA_end,) = scan.flat(dht)
    dA = dA_end[:0]
    own = False
    for n, (
        w_G_after_c,
        k_c,
        A_c,
        dq_1_c,
        A_c_2,
        G_C_c,
        q_c,
    ) in scan.each(
        steps,
        H,
        (
            w_G_after,
            k,
            A,
            dq_1,
            A.mT,
            G_C[:, :, None],
            q.mT,
        ),
        True,
    ):
        if dA.shape[0] < n:
            dA = torch.cat([dA, dA_end[dA.shape[0] : n]])
        dk_scaled = torch.bmm(w_G_after_c, dA.mT, out=dk_scaled_rows.room(n))
        k_dA = torch.bmm(k_c, dA, out=k_dA_rows.room(n))
        A_dA = A_c * dA
        dG_C = torch.sum(A_dA, 1, out=dG_C_rows.room(n))
        dq_2 = torch.bmm(dq_1_c, A_c_2, out=dq_2_rows.room(n))
        dA_before = scan.addmm(scan.scale(dA, G_C_c, own), q_c, dq_1_c, rsqrt_K)
        dk_scaled_rows.put(dk_scaled)
        k_dA_rows.put(k_dA)
        dG_C_rows.put(dG_C)
        dq_2_rows.put(dq_2)
        dA = dA_before
        own = True
    dA_end = torch.cat([dA, dA_end[dA.shape[0] :]]) if dA.shape[0] < dA_end.shape[0] else dA
    dA_end = dA_end.unflatten(0, (-1, H))
    dk_scaled = dk_scaled_rows.joined()
    k_dA = k_dA_rows.joined()
    dG_C = dG_C_rows.joined()
    dq_2 = dq_2_rows.joined()
    del dk_scaled_rows
    del k_dA_rows
    del dG_C_rows
    del dq_2_rows
    del dq_1
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    dlog2_G_after = tiles.product_(w_G_after, valid[:, :, :, None], k_dA, ln2)
    del w_G_after
    dlog2_D_3 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dlogsigmoid_a_1 = tiles.product_(G_after, k_dA, alpha_scaled)
    del G_after, alpha_scaled, k_dA
    dlog2_D = dlog2_G_C_2 + dlog2_D_3 + dlog2_D_1 + dlog2_D_2
    del dlog2_D_1, dlog2_D_2, dlog2_D_3, dlog2_G_C_2
    dlog2_D_scaled = tiles.scale_(dlog2_D, valid[:, :, :, None], log2e)
    del dlog2_D
    dq_3 = dq_2 * rsqrt_K
    del dq_2
    dlogsigmoid_a = torch.add(-0.125 * dlogsigmoid_a_1, dlog2_D_scaled, alpha=0.125)
    del dlog2_D_scaled, dlogsigmoid_a_1
    da = tiles.addcmul_(-0.125 * da_2, sigmoid_a_scaled, dlogsigmoid_a)
    del da_2, dlogsigmoid_a, sigmoid_a_scaled
    dk = tiles.addmm_(valid[:, :, :, None] * dk_scaled, dqk.mT, q)
    del dk_scaled
    dq = dq_3 + dqk @ k
    del dq_3, dqk
    return (dq, dk, da), (dA_end,)


def stage1_recurrent_forward(args, valid, h0, steps, keep):
    (q, k, a_) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    del alpha_1
    w = -alpha + 1
    A_new_1 = k[:, :, :, None] * w[:, :, None]
    del w
    rsqrt_K = (K) ** -0.5
    A_rows = scan.Rows(steps, H)
    p_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (alpha_c, A_new_1_c, q_c) in scan.each(steps, H, (alpha[:, :, None], A_new_1, q)):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        A_new = scan.scale(A, alpha_c, own, A_rows if keep else None)
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
    del A_new_1, alpha
    return (p,), (A_end,), (A,) if keep else None


def stage1_recurrent_states(args, valid, h0, steps, keep):
    (_, k, a_) = args
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    del alpha_1
    w = -alpha + 1
    A_new_1 = k[:, :, :, None] * w[:, :, None]
    del w
    A_rows = scan.Rows(steps, H)
    (A,) = scan.flat(h0)
    A_done = []
    own = False
    for n, (alpha_c, A_new_1_c) in scan.each(steps, H, (alpha[:, :, None], A_new_1)):
        if A.shape[0] > n:
            A_done.append(A[n:])
            A = A[:n]
        if keep:
            A_rows.put(A)
        A_new = scan.scale(A, alpha_c, own, A_rows if keep else None)
        A_new = A_new + A_new_1_c
        A = A_new
        own = True
    A_end = torch.cat([A, *reversed(A_done)]) if A_done else A
    A_end = A_end.unflatten(0, (-1, H))
    if keep:
        A = A_rows.joined()
    del A_rows
    del A_new_1, alpha
    return (), (A_end,), (A,) if keep else None


def stage1_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, a_) = args
    if kept is None:
        kept = stage1_recurrent_states(args, valid, h0, steps, True)[2]
    (A,) = kept
    (dp,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    del alpha_1
    w = -alpha + 1
    dq_1 = tiles.addcmul_(alpha[:, :, None] * A, k[:, :, :, None], w[:, :, None])
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
    a_scaled = a_ * -1
    sigmoid_a_scaled = torch.sigmoid(a_scaled)
    del a_scaled
    dq_9 = dq_8 * rsqrt_K
    del dq_8
    dq = (dq_9[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    dA_before_1 = q[:, :, :, None] * dq_9[:, :, None]
    del dq_9
    dA_before_2_rows = scan.Rows(steps, H, True)
    (dA_end,) = scan.flat(dht)
    dA = dA_end[:0]
    for n, (dA_before_1_c, alpha_c) in scan.each(steps, H, (dA_before_1, alpha), True):
        if dA.shape[0] < n:
            dA = torch.cat([dA, dA_end[dA.shape[0] : n]])
        dA_before_2 = dA + dA_before_1_c
        dA_before = alpha_c[:, None] * dA_before_2
        dA_before_2_rows.put(dA_before_2)
        dA = dA_before
    dA_end = torch.cat([dA, dA_end[dA.shape[0] :]]) if dA.shape[0] < dA_end.shape[0] else dA
    dA_end = dA_end.unflatten(0, (-1, H))
    dA_before_2 = dA_before_2_rows.joined()
    del dA_before_2_rows
    del dA_before_1
    dk_1 = w[:, :, None] * dA_before_2
    del w
    dw_1 = k[:, :, :, None] * dA_before_2
    dk = dk_1.sum(3)
    del dk_1
    dw = dw_1.sum(2)
    del dw_1
    dalpha_1 = A * dA_before_2
    del dA_before_2
    dalpha_2 = dalpha_1.sum(2)
    del dalpha_1
    dalpha = dalpha_2 - dw
    del dalpha_2, dw
    da = tiles.product(alpha, dalpha, sigmoid_a_scaled, 0.125)
    del alpha, dalpha, sigmoid_a_scaled
    return (dq, dk, da), (dA_end,)


def stage2_chunked_forward(args, valid, h0, steps, keep):
    (v, a_, p) = args
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    w = -alpha + 1
    del alpha
    w_scaled = valid[:, :, :, None] * w
    log2_D_1 = alpha_1 * tiles.LOG2E
    del alpha_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    pG = tiles.product_(G, p)
    del G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    w_G_after = tiles.product_(w, G_after)
    del G_after, w
    f1 = tiles.decay_factors(log2_D)
    A = tiles.decay_dot(p, w_scaled, f1)
    del f1, log2_D, w_scaled
    w_G_after_scaled = tiles.scale_(w_G_after, valid[:, :, :, None])
    del w_G_after
    B_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (
        pG_c,
        A_c,
        v_c,
        G_C_c,
        w_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            pG,
            A,
            v,
            G_C[:, :, :, None],
            w_G_after_scaled.mT,
        ),
    ):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        o = scan.addmm(torch.bmm(pG_c, B, out=o_rows.room(n)), A_c, v_c)
        B_new = scan.scale(B, G_C_c, own, B_rows if keep else None)
        B_new = scan.addmm(B_new, w_G_after_scaled_c, v_c)
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
    del G_C, pG, w_G_after_scaled
    return (o,), (B_end,), (B, A) if keep else None


stage2_chunked_forward.by_step = (0,)


def stage2_chunked_states(args, valid, h0, steps, keep):
    (v, a_, p) = args
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    w = -alpha + 1
    del alpha
    w_scaled = valid[:, :, :, None] * w
    log2_D_1 = alpha_1 * tiles.LOG2E
    del alpha_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    w_G_after = tiles.product_(w, G_after)
    del G_after, w
    f1 = tiles.decay_factors(log2_D)
    A = tiles.decay_dot(p, w_scaled, f1)
    del f1, log2_D, w_scaled
    w_G_after_scaled = tiles.scale_(w_G_after, valid[:, :, :, None])
    del w_G_after
    B_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (
        G_C_c,
        w_G_after_scaled_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            G_C[:, :, :, None],
            w_G_after_scaled.mT,
            v,
        ),
    ):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, G_C_c, own, B_rows if keep else None)
        B_new = scan.addmm(B_new, w_G_after_scaled_c, v_c)
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    if keep:
        B = B_rows.joined()
    del B_rows
    del G_C, w_G_after_scaled
    return (), (B_end,), (B, A) if keep else None


stage2_chunked_states.by_step = (0,)


def stage2_chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (v, a_, p) = args
    if kept is None:
        kept = stage2_chunked_states(args, valid, h0, steps, True)[2]
    (B, p_w_scaled) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    w = -alpha + 1
    w_scaled = valid[:, :, :, None] * w
    log2_D_1 = alpha_1 * tiles.LOG2E
    del alpha_1
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    pG = p * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    w_G_after = tiles.product_(w, G_after)
    del w
    ln2 = tiles.LN2
    do_v = do @ v.mT
    f1 = tiles.decay_factors(log2_D)
    dp_1, da_1, dlog2_D_1 = tiles.decay_dot_grads(do_v, p, w_scaled, f1)
    del do_v, f1, log2_D, w_scaled
    log2e = tiles.LOG2E
    a_scaled = a_ * -1
    sigmoid_a_scaled = tiles.apply_(torch.sigmoid_, a_scaled)
    del a_scaled
    alpha_scaled = tiles.scale_(alpha, valid[:, :, :, None])
    del alpha
    w_G_after_scaled = valid[:, :, :, None] * w_G_after
    v_dB_rows = scan.Rows(steps, H, True)
    w_G_after_dB_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    dpG_rows = scan.Rows(steps, H, True)
    (dB_end,) = scan.flat(dht)
    dB = dB_end[:0]
    own = False
    for n, (
        v_c,
        w_G_after_c,
        B_c,
        do_c,
        B_c_2,
        G_C_c,
        pG_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            w_G_after,
            B,
            do,
            B.mT,
            G_C[:, :, :, None],
            pG.mT,
        ),
        True,
    ):
        if dB.shape[0] < n:
            dB = torch.cat([dB, dB_end[dB.shape[0] : n]])
        v_dB = torch.bmm(v_c, dB.mT, out=v_dB_rows.room(n))
        w_G_after_dB = torch.bmm(w_G_after_c, dB, out=w_G_after_dB_rows.room(n))
        B_dB = B_c * dB
        dG_C = torch.sum(B_dB, 2, out=dG_C_rows.room(n))
        dpG = torch.bmm(do_c, B_c_2, out=dpG_rows.room(n))
        dB_before = scan.addmm(scan.scale(dB, G_C_c, own), pG_c, do_c)
        v_dB_rows.put(v_dB)
        w_G_after_dB_rows.put(w_G_after_dB)
        dG_C_rows.put(dG_C)
        dpG_rows.put(dpG)
        dB = dB_before
        own = True
    dB_end = torch.cat([dB, dB_end[dB.shape[0] :]]) if dB.shape[0] < dB_end.shape[0] else dB
    dB_end = dB_end.unflatten(0, (-1, H))
    v_dB = v_dB_rows.joined()
    w_G_after_dB = w_G_after_dB_rows.joined()
    dG_C = dG_C_rows.joined()
    dpG = dpG_rows.joined()
    del v_dB_rows
    del w_G_after_dB_rows
    del dG_C_rows
    del dpG_rows
    del w_G_after
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    dp = torch.addcmul(dp_1, G, dpG)
    del G, dp_1
    dlog2_G_after = tiles.product_(w_G_after_scaled, v_dB, ln2)
    del w_G_after_scaled
    dlog2_D_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dlog2_G = tiles.product_(pG, dpG, ln2)
    del dpG, pG
    dlog2_D_3 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dlogsigmoid_a_1 = tiles.product_(G_after, v_dB, alpha_scaled)
    del G_after, v_dB
    da_2 = tiles.product_(alpha_scaled, da_1, sigmoid_a_scaled)
    del alpha_scaled, da_1
    dlog2_D = dlog2_G_C_2 + dlog2_D_2 + dlog2_D_3 + dlog2_D_1
    del dlog2_D_1, dlog2_D_2, dlog2_D_3, dlog2_G_C_2
    dlog2_D_scaled = tiles.scale_(dlog2_D, valid[:, :, :, None], log2e)
    del dlog2_D
    dlogsigmoid_a = torch.add(-0.125 * dlogsigmoid_a_1, dlog2_D_scaled, alpha=0.125)
    del dlog2_D_scaled, dlogsigmoid_a_1
    da = tiles.addcmul_(-0.125 * da_2, sigmoid_a_scaled, dlogsigmoid_a)
    del da_2, dlogsigmoid_a, sigmoid_a_scaled
    dv = tiles.addmm_(valid[:, :, :, None] * w_G_after_dB, p_w_scaled.mT, do)
    del w_G_after_dB
    return (dv, da, dp), (dB_end,)


def stage2_recurrent_forward(args, valid, h0, steps, keep):
    (v, a_, p) = args
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    del alpha_1
    w = -alpha + 1
    B_new_1 = v[:, :, None] * w[:, :, :, None]
    del w
    B_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (alpha_c, B_new_1_c, p_c) in scan.each(steps, H, (alpha[:, :, :, None], B_new_1, p)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, alpha_c, own, B_rows if keep else None)
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
    del B_new_1, alpha
    return (o,), (B_end,), (B,) if keep else None


def stage2_recurrent_states(args, valid, h0, steps, keep):
    (v, a_, _) = args
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    del alpha_1
    w = -alpha + 1
    B_new_1 = v[:, :, None] * w[:, :, :, None]
    del w
    B_rows = scan.Rows(steps, H)
    (B,) = scan.flat(h0)
    B_done = []
    own = False
    for n, (alpha_c, B_new_1_c) in scan.each(steps, H, (alpha[:, :, :, None], B_new_1)):
        if B.shape[0] > n:
            B_done.append(B[n:])
            B = B[:n]
        if keep:
            B_rows.put(B)
        B_new = scan.scale(B, alpha_c, own, B_rows if keep else None)
        B_new = B_new + B_new_1_c
        B = B_new
        own = True
    B_end = torch.cat([B, *reversed(B_done)]) if B_done else B
    B_end = B_end.unflatten(0, (-1, H))
    if keep:
        B = B_rows.joined()
    del B_rows
    del B_new_1, alpha
    return (), (B_end,), (B,) if keep else None


def stage2_recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (v, a_, p) = args
    if kept is None:
        kept = stage2_recurrent_states(args, valid, h0, steps, True)[2]
    (B,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    logsigmoid_a = F.logsigmoid(a_)
    alpha_1 = logsigmoid_a * 0.125
    del logsigmoid_a
    alpha = torch.exp(alpha_1)
    del alpha_1
    w = -alpha + 1
    dp_1 = tiles.addcmul_(alpha[:, :, :, None] * B, v[:, :, None], w[:, :, :, None])
    dp = (do[..., None, :] @ dp_1.mT).squeeze(-2)
    del dp_1
    dB_before_1 = p[:, :, :, None] * do[:, :, None]
    a_scaled = a_ * -1
    sigmoid_a_scaled = torch.sigmoid(a_scaled)
    del a_scaled
    dB_before_2_rows = scan.Rows(steps, H, True)
    (dB_end,) = scan.flat(dht)
    dB = dB_end[:0]
    for n, (dB_before_1_c, alpha_c) in scan.each(steps, H, (dB_before_1, alpha), True):
        if dB.shape[0] < n:
            dB = torch.cat([dB, dB_end[dB.shape[0] : n]])
        dB_before_2 = dB + dB_before_1_c
        dB_before = alpha_c[:, :, None] * dB_before_2
        dB_before_2_rows.put(dB_before_2)
        dB = dB_before
    dB_end = torch.cat([dB, dB_end[dB.shape[0] :]]) if dB.shape[0] < dB_end.shape[0] else dB
    dB_end = dB_end.unflatten(0, (-1, H))
    dB_before_2 = dB_before_2_rows.joined()
    del dB_before_2_rows
    del dB_before_1
    dv_1 = w[:, :, :, None] * dB_before_2
    del w
    dw_1 = v[:, :, None] * dB_before_2
    dv = dv_1.sum(2)
    del dv_1
    dw = dw_1.sum(3)
    del dw_1
    dalpha_1 = B * dB_before_2
    del dB_before_2
    dalpha_2 = dalpha_1.sum(3)
    del dalpha_1
    dalpha = dalpha_2 - dw
    del dalpha_2, dw
    da = tiles.product(alpha, dalpha, sigmoid_a_scaled, 0.125)
    del alpha, dalpha, sigmoid_a_scaled
    return (dv, da, dp), (dB_end,)
