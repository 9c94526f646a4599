"""mamba2: generated from its spec by rnnc; do not edit.

S[t] = exp(-delta * exp(A_log)) * S[t-1] + delta * B @ u.T
o[t] = D * u + S[t].T @ C
  delta = softplus(dt + dt_bias)

In a chunk of C_ tokens with the incoming state S_in:
  D_ = exp(-delta * exp(A_log))
  w = delta * B,  v = u
  q = C
  G[i] = D_[1] * ... * D_[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q * G) S_in
  S_out = G[C_] * S_in + (w * G[C_]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "mamba2"
SPEC_HASH = "01ab9cd6976c6615f7b246b1665bfe3b7f44774d46533ea351d227f9dba49ac9"
INPUTS = (("u", ("P",)), ("dt", ()), ("B", ("N",)), ("C", ("N",)))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("D", ()))
STATES = (("S", ("N", "P")),)
OUTPUTS = (("o", ("P",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
    del x10
    x29 = C_ @ B.mT
    x36 = D[:, :, None, None] * u
    x45 = x13 * tiles.LOG2E
    del x13
    x46 = torch.where(valid > 0, x45, 0)
    del x45
    x47 = tiles.prefix_sum(x46, 2)
    x48 = torch.exp2(x47)
    del x47
    x50 = tiles.segment_sum(x46)
    x51 = torch.exp2(x50)
    del x50
    x53 = x29 * x51
    del x29, x51
    x56 = tiles.suffix_sum(x46, 2, exclusive=True)
    x57 = torch.exp2(x56)
    del x56
    x60 = x46.sum(2)
    del x46
    x61 = torch.exp2(x60)
    del x60
    x193 = valid * x12
    x194 = x57 * x193
    del x193, x57
    x195 = valid * x12
    del x12
    x197 = x194[:, :, :, None] * B
    del x194
    x213 = x195[:, :, None] * x53
    del x195, x53
    x214 = x213 @ u
    del x213
    x233 = x48[:, :, :, None] * C_
    del x48
    S_rows = scan.Rows(steps, H)
    x235_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x36_c,
        x233_c,
        x214_c,
        x61_c,
        x197_c,
        u_c,
    ) in scan.each(
        steps,
        H,
        (
            x36,
            x233,
            x214,
            x61[:, :, None, None],
            x197.mT,
            u,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x235 = scan.addmm(x36_c + x214_c, x233_c, S)
        x199 = scan.addmm(scan.scale(S, x61_c, own), x197_c, u_c)
        x235_rows.put(x235)
        S = x199
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x235 = x235_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x235_rows
    del x197, x214, x233, x36, x61
    return (x235,), (S_end,), (S,) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
    del x10
    x45 = x13 * tiles.LOG2E
    del x13
    x46 = torch.where(valid > 0, x45, 0)
    del x45
    x56 = tiles.suffix_sum(x46, 2, exclusive=True)
    x57 = torch.exp2(x56)
    del x56
    x60 = x46.sum(2)
    del x46
    x61 = torch.exp2(x60)
    del x60
    x193 = valid * x12
    del x12
    x194 = x57 * x193
    del x193, x57
    x197 = x194[:, :, :, None] * B
    del x194
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x61_c, x197_c, u_c) in scan.each(steps, H, (x61[:, :, None, None], x197.mT, u)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x199 = scan.addmm(scan.scale(S, x61_c, own), x197_c, u_c)
        S = x199
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x197, x61
    return (), (S_end,), (S,) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None] * x12
    x29 = C_ @ B.mT
    x45 = x13 * tiles.LOG2E
    del x13
    x46 = torch.where(valid > 0, x45, 0)
    del x45
    x47 = tiles.prefix_sum(x46, 2)
    x48 = torch.exp2(x47)
    del x47
    x50 = tiles.segment_sum(x46)
    x51 = torch.exp2(x50)
    del x50
    x53 = x29 * x51
    del x29
    x56 = tiles.suffix_sum(x46, 2, exclusive=True)
    x57 = torch.exp2(x56)
    del x56
    x60 = x46.sum(2)
    del x46
    x61 = torch.exp2(x60)
    del x60
    x86 = tiles.LN2
    x94 = do @ u.mT
    x96 = x53.mT @ do
    x109 = x48[:, :, :, None] * do
    x118 = tiles.LOG2E
    x120 = D[:, :, None, None] * do
    x121 = u * do
    x122 = x121.sum(2)
    del x121
    x123 = x122.sum(2)
    del x122
    x127 = x51 * x94
    del x51
    x130 = x127.mT @ C_
    x136 = torch.sigmoid(x11)
    del x11
    x142 = do @ S.mT
    x192 = x53 * x94
    del x53, x94
    x193 = valid * x12
    x194 = x57 * x193
    x195 = valid * x12
    del x12
    x196 = x10 * x118
    del x10
    x204 = x192.sum(2)
    x207 = x193[:, :, :, None] * x96
    del x96
    x209 = tiles.product(valid, x204, x136)
    del x204
    x210 = x193[:, :, :, None] * x130
    del x130
    x216 = x195[:, :, None] * x127
    del x127
    x217 = (x195 * x86)[:, :, None] * x192
    del x192, x195
    x218 = tiles.segment_sum_grad(x217)
    del x217
    x222 = x209.sum(2)
    x231 = tiles.addmm_(x48[:, :, :, None] * x142, x216, B)
    del x216
    x236 = C_ * x142
    del x142
    x237 = x236.sum(3)
    del x236
    x238 = x48 * x237 * x86
    del x237, x48
    x239 = tiles.suffix_sum(x238, 2)
    del x238
    x69_rows = scan.Rows(steps, H, True)
    x71_rows = scan.Rows(steps, H, True)
    x84_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        u_c,
        B_c,
        S_c,
        x61_c,
        C__c,
        x109_c,
    ) in scan.each(
        steps,
        H,
        (
            u,
            B,
            S,
            x61[:, :, None, None],
            C_.mT,
            x109,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x69 = torch.bmm(u_c, dS.mT, out=x69_rows.room(n))
        x71 = torch.bmm(B_c, dS, out=x71_rows.room(n))
        x83 = S_c * dS
        x84 = x83.sum(1)
        x157 = scan.addmm(scan.scale(dS, x61_c, own), C__c, x109_c)
        x69_rows.put(x69)
        x71_rows.put(x71)
        x84_rows.put(x84)
        dS = x157
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x69 = x69_rows.joined()
    x71 = x71_rows.joined()
    x84 = x84_rows.joined()
    del x69_rows
    del x71_rows
    del x84_rows
    del x109
    x77 = B * x69
    x78 = x77.sum(3)
    del x77
    x80 = tiles.product(valid, x57, x78)
    del x57
    x85 = x84.sum(2)
    del x84
    x88 = x61 * x85 * x86
    del x61, x85
    x89 = x88[:, :, None].expand(-1, -1, C)
    del x88
    x202 = x78 * x194 * x86
    del x78
    x203 = tiles.prefix_sum(x202, 2, exclusive=True)
    del x202
    x211 = torch.addcmul(x210, x194[:, :, :, None], x69)
    del x210, x69
    x212 = tiles.addcmul_(x120 + x207, x194[:, :, :, None], x71)
    del x120, x194, x207, x71
    x240 = x89 + x203 + x239 + x218
    del x203, x218, x239, x89
    x241 = tiles.product(valid, x240, x196[:, :, None])
    x242 = x80 - x241
    del x241, x80
    x243 = x136 * x242
    del x136, x242
    x244 = x209 + x243
    del x209
    x245 = x240 * x193
    del x193, x240
    x246 = x245.sum(2)
    del x245
    x247 = x246 * x196 * -1
    del x196, x246
    x248 = x243.sum(2)
    del x243
    x249 = x222 + x248
    del x222, x248
    return (x212, x244, x211, x231, x247, x249, x123), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = dt + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x16 = (x11[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    x19 = D[:, :, None] * u
    x67 = x9 * x11
    del x11, x9
    x68 = x67 * -1
    del x67
    x69 = torch.exp(x68)
    del x68
    S_rows = scan.Rows(steps, H)
    x73_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x69_c, x16_c, C__c, x19_c) in scan.each(steps, H, (x69[:, :, None, None], x16, C_, x19)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x71 = scan.scale(S, x69_c, own) + x16_c
        x72 = (C__c[..., None, :] @ x71).squeeze(-2)
        x73 = x72 + x19_c
        x73_rows.put(x73)
        S = x71
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x73 = x73_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x73_rows
    del x16, x19, x69
    return (x73,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = dt + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x16 = (x11[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    x67 = x9 * x11
    del x11, x9
    x68 = x67 * -1
    del x67
    x69 = torch.exp(x68)
    del x68
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x69_c, x16_c) in scan.each(steps, H, (x69[:, :, None, None], x16)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x71 = scan.scale(S, x69_c, own) + x16_c
        S = x71
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x16, x69
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = dt + dt_bias
    x11 = tiles.softplus(x10)
    x16 = (x11[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    x33 = D[:, :, None] * do
    x34 = u * do
    x35 = x34.sum(2)
    del x34
    x38 = C_[:, :, :, None] * do[:, :, None]
    x60 = torch.sigmoid(x10)
    del x10
    x67 = x9 * x11
    x68 = x67 * -1
    x69 = torch.exp(x68)
    del x68
    x71 = torch.addcmul(x16, x69[:, :, None, None], S)
    del x16
    x74 = (do[..., None, :] @ x71.mT).squeeze(-2)
    del x71
    x39_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (x38_c, x69_c) in scan.each(steps, H, (x38, x69), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x39 = dS + x38_c
        x75 = x69_c[:, None, None] * x39
        x39_rows.put(x39)
        dS = x75
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x39 = x39_rows.joined()
    del x39_rows
    del x38
    x43 = B[:, :, :, None] * x39
    x44 = x43.sum(2)
    del x43
    x46 = u[:, :, None] * x39
    x47 = x46.sum(3)
    del x46
    x48 = x11[:, :, None] * x47
    del x47
    x49 = u * x44
    x50 = x49.sum(2)
    del x49
    x52 = S * x39
    del x39
    x53 = x52.sum(2)
    del x52
    x54 = x53.sum(2)
    del x53
    x65 = torch.addcmul(x33, x11[:, :, None], x44)
    del x11, x33, x44
    x76 = x69 * x54
    del x54, x69
    x78 = torch.addcmul(x50, x9, x76, value=-1)
    del x50, x9
    x79 = x78 * x60
    del x60, x78
    x80 = x76 * x67 * -1
    del x67, x76
    return (x65, x79, x48, x74, x80, x79, x35), (dS_end,)
