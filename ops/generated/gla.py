"""gla: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)
  alpha = exp(logsigmoid(gk) * 0.0625)

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
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "gla"
SPEC_HASH = "8cf86c233a0f92b607f9c59e50dd8787f0f93335e2d8a5c9e3733fb4f0af86a4"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("gk", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, gk) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    x7 = F.logsigmoid(gk)
    x8 = x7 * 0.0625
    del x7
    x11 = valid[:, :, :, None] * k
    x13 = (K) ** -0.5
    x14 = q * x13
    x35 = x8 * tiles.LOG2E
    del x8
    x36 = torch.where(valid[:, :, :, None] > 0, x35, 0)
    del x35
    x37 = tiles.prefix_sum(x36, 2)
    x38 = torch.exp2(x37)
    del x37
    x39 = q * x38
    del x38
    x45 = tiles.suffix_sum(x36, 2, exclusive=True)
    x46 = torch.exp2(x45)
    del x45
    x49 = x36.sum(2)
    x50 = torch.exp2(x49)
    del x49
    x53 = k * x46
    del x46
    f1 = tiles.decay_factors(x36)
    x135 = tiles.decay_dot(x14, x11, f1)
    del f1, x11, x14, x36
    x136 = x135 @ v
    x148 = valid[:, :, :, None] * x53
    del x53
    S_rows = scan.Rows(steps, H)
    x137_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x39_c,
        x136_c,
        x50_c,
        x148_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            x39,
            x136,
            x50[:, :, :, None],
            x148.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x137 = torch.baddbmm(x136_c, x39_c, S, alpha=x13, out=x137_rows.room(n))
        x150 = scan.addmm(scan.scale(S, x50_c, own), x148_c, v_c)
        x137_rows.put(x137)
        S = x150
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x137 = x137_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x137_rows
    del x136, x148, x39, x50
    return (x137,), (S_end,), (S, x135) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, gk) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    x7 = F.logsigmoid(gk)
    x8 = x7 * 0.0625
    del x7
    x11 = valid[:, :, :, None] * k
    x13 = (K) ** -0.5
    x14 = q * x13
    x35 = x8 * tiles.LOG2E
    del x8
    x36 = torch.where(valid[:, :, :, None] > 0, x35, 0)
    del x35
    x45 = tiles.suffix_sum(x36, 2, exclusive=True)
    x46 = torch.exp2(x45)
    del x45
    x49 = x36.sum(2)
    x50 = torch.exp2(x49)
    del x49
    x53 = k * x46
    del x46
    f1 = tiles.decay_factors(x36)
    x135 = tiles.decay_dot(x14, x11, f1)
    del f1, x11, x14, x36
    x148 = valid[:, :, :, None] * x53
    del x53
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x50_c, x148_c, v_c) in scan.each(steps, H, (x50[:, :, :, None], x148.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x150 = scan.addmm(scan.scale(S, x50_c, own), x148_c, v_c)
        S = x150
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x148, x50
    return (), (S_end,), (S, x135) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gk) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x135) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x7 = F.logsigmoid(gk)
    x8 = x7 * 0.0625
    del x7
    x11 = valid[:, :, :, None] * k
    x13 = (K) ** -0.5
    x14 = q * x13
    x35 = x8 * tiles.LOG2E
    del x8
    x36 = torch.where(valid[:, :, :, None] > 0, x35, 0)
    del x35
    x37 = tiles.prefix_sum(x36, 2)
    x38 = torch.exp2(x37)
    del x37
    x39 = q * x38
    x45 = tiles.suffix_sum(x36, 2, exclusive=True)
    x46 = torch.exp2(x45)
    del x45
    x49 = x36.sum(2)
    x50 = torch.exp2(x49)
    del x49
    x53 = k * x46
    x70 = tiles.LN2
    x78 = do @ v.mT
    f1 = tiles.decay_factors(x36)
    x139, x82, x140 = tiles.decay_dot_grads(x78, x14, x11, f1)
    del f1, x11, x14, x36, x78
    x89 = do @ S.mT
    x94 = x38 * x89 * x13
    del x38
    x102 = tiles.LOG2E
    x111 = valid[:, :, :, None] * x82
    del x82
    x125 = gk * -1
    x126 = torch.sigmoid(x125)
    del x125
    x138 = x135.mT @ do
    x143 = x139 * x13
    del x139
    x146 = x94 + x143
    del x143, x94
    x147 = x13 * x70
    x148 = valid[:, :, :, None] * x53
    x153 = x39 * x89 * x147
    del x89
    x154 = tiles.suffix_sum(x153, 2)
    del x153
    x59_rows = scan.Rows(steps, H, True)
    x61_rows = scan.Rows(steps, H, True)
    x69_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        x53_c,
        S_c,
        x50_c,
        x39_c,
        do_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x53,
            S,
            x50[:, :, :, None],
            x39.mT,
            do,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x59 = torch.bmm(v_c, dS.mT, out=x59_rows.room(n))
        x61 = torch.bmm(x53_c, dS, out=x61_rows.room(n))
        x68 = S_c * dS
        x69 = x68.sum(2)
        x128 = scan.addmm(scan.scale(dS, x50_c, own), x39_c, do_c, x13)
        x59_rows.put(x59)
        x61_rows.put(x61)
        x69_rows.put(x69)
        dS = x128
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x59 = x59_rows.joined()
    x61 = x61_rows.joined()
    x69 = x69_rows.joined()
    del x59_rows
    del x61_rows
    del x69_rows
    del x39, x53
    x63 = tiles.product(x46, x59, valid[:, :, :, None])
    del x46
    x72 = x50 * x69 * x70
    del x50, x69
    x73 = x72[:, :, None].expand(-1, -1, C, -1)
    del x72
    x132 = x63 + x111
    del x111, x63
    x145 = torch.addcmul(x138, valid[:, :, :, None], x61)
    del x138, x61
    x151 = x59 * x148 * x70
    del x148, x59
    x152 = tiles.prefix_sum(x151, 2, exclusive=True)
    del x151
    x155 = x73 + x152 + x154 + x140
    del x140, x152, x154, x73
    x156 = tiles.product(x126, x155, (valid * 0.0625 * x102)[:, :, :, None])
    del x126, x155
    return (x146, x132, x145, x156), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gk) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x6 = F.logsigmoid(gk)
    x7 = x6 * 0.0625
    del x6
    x8 = torch.exp(x7)
    del x7
    x10 = k[:, :, :, None] * v[:, :, None]
    x13 = (K) ** -0.5
    x14 = q * x13
    S_rows = scan.Rows(steps, H)
    x16_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x8_c, x10_c, x14_c) in scan.each(steps, H, (x8[:, :, :, None], x10, x14)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x11 = scan.scale(S, x8_c, own) + x10_c
        x16 = (x14_c[..., None, :] @ x11).squeeze(-2)
        x16_rows.put(x16)
        S = x11
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x16 = x16_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x16_rows
    del x10, x14, x8
    return (x16,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gk) = args
    H = h0[0].shape[1]
    x6 = F.logsigmoid(gk)
    x7 = x6 * 0.0625
    del x6
    x8 = torch.exp(x7)
    del x7
    x10 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x8_c, x10_c) in scan.each(steps, H, (x8[:, :, :, None], x10)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x11 = scan.scale(S, x8_c, own) + x10_c
        S = x11
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x10, x8
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gk) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x6 = F.logsigmoid(gk)
    x7 = x6 * 0.0625
    del x6
    x8 = torch.exp(x7)
    del x7
    x11 = tiles.addcmul_(x8[:, :, :, None] * S, k[:, :, :, None], v[:, :, None])
    x13 = (K) ** -0.5
    x14 = q * x13
    x29 = (do[..., None, :] @ x11.mT).squeeze(-2)
    del x11
    x31 = x29 * x13
    del x29
    x51 = gk * -1
    x52 = torch.sigmoid(x51)
    del x51
    x56 = do[:, :, None] * x14[:, :, :, None]
    del x14
    x57_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (x56_c, x8_c) in scan.each(steps, H, (x56, x8), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x57 = dS + x56_c
        x62 = x8_c[:, :, None] * x57
        x57_rows.put(x57)
        dS = x62
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x57 = x57_rows.joined()
    del x57_rows
    del x56
    x58 = v[:, :, None] * x57
    x59 = k[:, :, :, None] * x57
    x60 = x58.sum(3)
    del x58
    x61 = x59.sum(2)
    del x59
    x63 = S * x57
    del x57
    x64 = x63.sum(3)
    del x63
    x65 = tiles.product(x8, x64, x52, (0.0625))
    del x52, x64, x8
    return (x31, x60, x61, x65), (dS_end,)
