"""gla_signed: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)
  alpha = 2 * sigmoid(g0 + gk) - 1

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = k
  q_ = K**-0.5 * q
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "gla_signed"
SPEC_HASH = "e81df874800e12bdd8dd704a2c4fb5791365d1d642d9cc8da281aca31fa48c0d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("gk", ("K",)))
PARAMS = (("g0", ("K",)),)
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, gk, g0) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    x9 = torch.add(0.5 * gk, g0[:, :, None], alpha=0.5)
    x10 = torch.tanh(x9)
    del x9
    x11 = torch.where(valid[:, :, :, None] > 0, x10, 1)
    del x10
    x12 = valid[:, :, :, None] * k
    x14 = (K) ** -0.5
    x15 = q * x14
    x16 = tiles.running_product(x11, 2, "prefix")
    x18 = q * x16
    del x16
    x28 = tiles.running_product(x11, 2, "suffix", exclusive=True)
    x29 = tiles.running_product(x11, 2, "suffix")
    x30 = x29[:, :, 0]
    del x29
    x33 = k * x28
    del x28
    f1 = tiles.product_factors(x11)
    x108 = tiles.decay_dot(x15, x12, f1)
    del f1, x11, x12, x15
    x109 = x108 @ v
    x125 = valid[:, :, :, None] * x33
    del x33
    S_rows = scan.Rows(steps, H)
    x110_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x18_c,
        x109_c,
        x30_c,
        x125_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            x18,
            x109,
            x30[:, :, :, None],
            x125.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x110 = torch.baddbmm(x109_c, x18_c, S, alpha=x14, out=x110_rows.room(n))
        x127 = scan.addmm(scan.scale(S, x30_c, own), x125_c, v_c)
        x110_rows.put(x110)
        S = x127
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x110 = x110_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x110_rows
    del x109, x125, x18, x30
    return (x110,), (S_end,), (S, x108) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, gk, g0) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    x9 = torch.add(0.5 * gk, g0[:, :, None], alpha=0.5)
    x10 = torch.tanh(x9)
    del x9
    x11 = torch.where(valid[:, :, :, None] > 0, x10, 1)
    del x10
    x12 = valid[:, :, :, None] * k
    x14 = (K) ** -0.5
    x15 = q * x14
    x28 = tiles.running_product(x11, 2, "suffix", exclusive=True)
    x29 = tiles.running_product(x11, 2, "suffix")
    x30 = x29[:, :, 0]
    del x29
    x33 = k * x28
    del x28
    f1 = tiles.product_factors(x11)
    x108 = tiles.decay_dot(x15, x12, f1)
    del f1, x11, x12, x15
    x125 = valid[:, :, :, None] * x33
    del x33
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x30_c, x125_c, v_c) in scan.each(steps, H, (x30[:, :, :, None], x125.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x127 = scan.addmm(scan.scale(S, x30_c, own), x125_c, v_c)
        S = x127
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x125, x30
    return (), (S_end,), (S, x108) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gk, g0) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x108) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x9 = torch.add(0.5 * gk, g0[:, :, None], alpha=0.5)
    x10 = torch.tanh(x9)
    del x9
    x11 = torch.where(valid[:, :, :, None] > 0, x10, 1)
    x12 = valid[:, :, :, None] * k
    x14 = (K) ** -0.5
    x15 = q * x14
    x16 = tiles.running_product(x11, 2, "prefix")
    x18 = q * x16
    x28 = tiles.running_product(x11, 2, "suffix", exclusive=True)
    x29 = tiles.running_product(x11, 2, "suffix")
    x30 = x29[:, :, 0]
    x33 = k * x28
    x54 = do @ v.mT
    f1 = tiles.product_factors(x11)
    x113, x59, x114 = tiles.decay_dot_grads(x54, x15, x12, f1)
    del f1, x54
    x67 = valid[:, :, :, None] * x59
    del x59
    x73 = do @ S.mT
    x78 = x16 * x73 * x14
    x96 = x10 * -1 * x10 + 1
    del x10
    x111 = x108.mT @ do
    x115 = x113 * x14
    del x113
    x122 = x78 + x115
    del x115, x78
    x130 = x73 * x15
    del x15, x73
    x131 = tiles.running_product_grad(x11, x130, 2, "prefix")
    del x130, x16
    x39_rows = scan.Rows(steps, H, True)
    x41_rows = scan.Rows(steps, H, True)
    x49_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        x33_c,
        S_c,
        x30_c,
        x18_c,
        do_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x33,
            S,
            x30[:, :, :, None],
            x18.mT,
            do,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x39 = torch.bmm(v_c, dS.mT, out=x39_rows.room(n))
        x41 = torch.bmm(x33_c, dS, out=x41_rows.room(n))
        x48 = S_c * dS
        x49 = x48.sum(2)
        x101 = scan.addmm(scan.scale(dS, x30_c, own), x18_c, do_c, x14)
        x39_rows.put(x39)
        x41_rows.put(x41)
        x49_rows.put(x49)
        dS = x101
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x39 = x39_rows.joined()
    x41 = x41_rows.joined()
    x49 = x49_rows.joined()
    del x39_rows
    del x41_rows
    del x49_rows
    del x18, x30, x33
    x43 = tiles.product(x28, x39, valid[:, :, :, None])
    x50 = tiles.at_first(x49, C)
    del x49
    x51 = tiles.running_product_grad(x11, x50, 2, "suffix")
    del x29, x50
    x104 = x43 + x67
    del x43, x67
    x121 = torch.addcmul(x111, valid[:, :, :, None], x41)
    del x111, x41
    x128 = x39 * x12
    del x12, x39
    x129 = tiles.running_product_grad(x11, x128, 2, "suffix", exclusive=True)
    del x11, x128, x28
    x132 = x51 + x129 + x131 + x114
    del x114, x129, x131, x51
    x133 = x96 * x132
    del x132, x96
    x134 = valid[:, :, :, None] * x133
    del x133
    x135 = x134 * 0.5
    x136 = x134.sum(2)
    del x134
    x137 = x136 * 0.5
    del x136
    return (x122, x104, x121, x135, x137), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gk, g0) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x8 = torch.add(0.5 * gk, g0, alpha=0.5)
    x9 = torch.tanh(x8)
    del x8
    x11 = k[:, :, :, None] * v[:, :, None]
    x14 = (K) ** -0.5
    x15 = q * x14
    S_rows = scan.Rows(steps, H)
    x17_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x9_c, x11_c, x15_c) in scan.each(steps, H, (x9[:, :, :, None], x11, x15)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x12 = scan.scale(S, x9_c, own) + x11_c
        x17 = (x15_c[..., None, :] @ x12).squeeze(-2)
        x17_rows.put(x17)
        S = x12
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x17 = x17_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x17_rows
    del x11, x15, x9
    return (x17,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gk, g0) = args
    H = h0[0].shape[1]
    x8 = torch.add(0.5 * gk, g0, alpha=0.5)
    x9 = torch.tanh(x8)
    del x8
    x11 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x9_c, x11_c) in scan.each(steps, H, (x9[:, :, :, None], x11)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x12 = scan.scale(S, x9_c, own) + x11_c
        S = x12
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x11, x9
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gk, g0) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x8 = torch.add(0.5 * gk, g0, alpha=0.5)
    x9 = torch.tanh(x8)
    del x8
    x12 = tiles.addcmul_(x9[:, :, :, None] * S, k[:, :, :, None], v[:, :, None])
    x14 = (K) ** -0.5
    x15 = q * x14
    x21 = (do[..., None, :] @ x12.mT).squeeze(-2)
    del x12
    x23 = x21 * x14
    del x21
    x41 = x9 * -1 * x9 + 1
    x45 = do[:, :, None] * x15[:, :, :, None]
    del x15
    x46_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (x45_c, x9_c) in scan.each(steps, H, (x45, x9), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x46 = dS + x45_c
        x51 = x9_c[:, :, None] * x46
        x46_rows.put(x46)
        dS = x51
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x46 = x46_rows.joined()
    del x46_rows
    del x45, x9
    x47 = v[:, :, None] * x46
    x48 = k[:, :, :, None] * x46
    x49 = x47.sum(3)
    del x47
    x50 = x48.sum(2)
    del x48
    x52 = S * x46
    del x46
    x53 = x52.sum(3)
    del x52
    x54 = x53 * x41 * 0.5
    del x41, x53
    return (x23, x49, x50, x54, x54), (dS_end,)
