"""retention: generated from its spec by rnnc; do not edit.

S[t] = gamma * S[t-1] + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)

In a chunk of C tokens with the incoming state S_in:
  D = gamma
  w = k
  q_ = K**-0.5 * q
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "retention"
SPEC_HASH = "5d6b4798f9e75f8a9bacba355b55ae0d6a92fa2c76cf90f156c4098f0aca8793"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)))
PARAMS = (("gamma", ()),)
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, gamma) = args
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x10 = (K) ** -0.5
    x20 = q @ k.mT
    x36 = torch.log2(gamma)
    x37 = x36[:, :, None].expand(-1, -1, C)
    del x36
    x38 = torch.where(valid > 0, x37, 0)
    del x37
    x39 = tiles.prefix_sum(x38, 2)
    x40 = torch.exp2(x39)
    del x39
    x42 = tiles.segment_sum(x38)
    x43 = torch.exp2(x42)
    del x42
    x45 = x20 * x43
    del x20, x43
    x49 = tiles.suffix_sum(x38, 2, exclusive=True)
    x50 = torch.exp2(x49)
    del x49
    x53 = x38.sum(2)
    del x38
    x54 = torch.exp2(x53)
    del x53
    x155 = valid * x50
    del x50
    x157 = valid[:, :, None] * x45
    del x45
    x159 = x40 * x10
    del x40
    x161 = x157 @ v
    del x157
    x162 = x161 * x10
    del x161
    x164 = x155[:, :, :, None] * k
    del x155
    x188 = x159[:, :, :, None] * q
    del x159
    S_rows = scan.Rows(steps, H)
    x190_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x188_c,
        x162_c,
        x54_c,
        x164_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            x188,
            x162,
            x54[:, :, None, None],
            x164.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x190 = torch.baddbmm(x162_c, x188_c, S, out=x190_rows.room(n))
        x166 = scan.addmm(scan.scale(S, x54_c, own), x164_c, v_c)
        x190_rows.put(x190)
        S = x166
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x190 = x190_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x190_rows
    del x162, x164, x188, x54
    return (x190,), (S_end,), (S,) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, gamma) = args
    C = valid.shape[2]
    H = h0[0].shape[1]
    x36 = torch.log2(gamma)
    x37 = x36[:, :, None].expand(-1, -1, C)
    del x36
    x38 = torch.where(valid > 0, x37, 0)
    del x37
    x49 = tiles.suffix_sum(x38, 2, exclusive=True)
    x50 = torch.exp2(x49)
    del x49
    x53 = x38.sum(2)
    del x38
    x54 = torch.exp2(x53)
    del x53
    x155 = valid * x50
    del x50
    x164 = x155[:, :, :, None] * k
    del x155
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x54_c, x164_c, v_c) in scan.each(steps, H, (x54[:, :, None, None], x164.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x166 = scan.addmm(scan.scale(S, x54_c, own), x164_c, v_c)
        S = x166
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x164, x54
    return (), (S_end,), (S,) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gamma) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x10 = (K) ** -0.5
    x20 = q @ k.mT
    x36 = torch.log2(gamma)
    x37 = x36[:, :, None].expand(-1, -1, C)
    del x36
    x38 = torch.where(valid > 0, x37, 0)
    del x37
    x39 = tiles.prefix_sum(x38, 2)
    x40 = torch.exp2(x39)
    del x39
    x42 = tiles.segment_sum(x38)
    x43 = torch.exp2(x42)
    del x42
    x45 = x20 * x43
    del x20
    x49 = tiles.suffix_sum(x38, 2, exclusive=True)
    x50 = torch.exp2(x49)
    del x49
    x53 = x38.sum(2)
    del x38
    x54 = torch.exp2(x53)
    del x53
    x77 = tiles.LN2
    x89 = do @ v.mT
    x92 = x45.mT @ do
    x117 = torch.reciprocal(gamma)
    x118 = tiles.LOG2E
    x124 = x43 * x89
    del x43
    x129 = x124.mT @ q
    x136 = do @ S.mT
    x139 = x40[:, :, :, None] * do
    x155 = valid * x50
    del x50
    x156 = x10 * x77
    x157 = valid[:, :, None] * x45
    del x45
    x158 = valid * x10
    x159 = x40 * x10
    x171 = x89 * x157 * x156
    del x157, x89
    x172 = tiles.segment_sum_grad(x171)
    del x171
    x179 = x158[:, :, :, None] * x92
    del x92
    x180 = valid[:, :, None] * x124
    del x124
    x183 = x158[:, :, :, None] * x129
    del x129, x158
    x187 = tiles.addmm_(x159[:, :, :, None] * x136, x180, k, x10)
    del x159, x180
    x191 = q * x136
    del x136
    x192 = x191.sum(3)
    del x191
    x193 = x40 * x192 * x156
    del x192, x40
    x194 = tiles.suffix_sum(x193, 2)
    del x193
    x62_rows = scan.Rows(steps, H, True)
    x64_rows = scan.Rows(steps, H, True)
    x75_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        k_c,
        S_c,
        x54_c,
        q_c,
        x139_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k,
            S,
            x54[:, :, None, None],
            q.mT,
            x139,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x62 = torch.bmm(v_c, dS.mT, out=x62_rows.room(n))
        x64 = torch.bmm(k_c, dS, out=x64_rows.room(n))
        x74 = S_c * dS
        x75 = x74.sum(1)
        x149 = scan.addmm(scan.scale(dS, x54_c, own), q_c, x139_c, x10)
        x62_rows.put(x62)
        x64_rows.put(x64)
        x75_rows.put(x75)
        dS = x149
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x62 = x62_rows.joined()
    x64 = x64_rows.joined()
    x75 = x75_rows.joined()
    del x62_rows
    del x64_rows
    del x75_rows
    del x139
    x69 = k * x62
    x70 = x69.sum(3)
    del x69
    x76 = x75.sum(2)
    del x75
    x79 = x54 * x76 * x77
    del x54, x76
    x80 = x79[:, :, None].expand(-1, -1, C)
    del x79
    x169 = x70 * x155 * x77
    del x70
    x170 = tiles.prefix_sum(x169, 2, exclusive=True)
    del x169
    x185 = torch.addcmul(x179, x155[:, :, :, None], x64)
    del x179, x64
    x186 = torch.addcmul(x183, x155[:, :, :, None], x62)
    del x155, x183, x62
    x195 = x80 + x170 + x172 + x194
    del x170, x172, x194, x80
    x196 = valid * x195
    del x195
    x197 = x196.sum(2)
    del x196
    x198 = x197 * x117 * x118
    del x117, x197
    return (x187, x186, x185, x198), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gamma) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x6 = k[:, :, :, None] * v[:, :, None]
    x9 = (K) ** -0.5
    x10 = q * x9
    S_rows = scan.Rows(steps, H)
    x12_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (gamma_c, x6_c, x10_c) in scan.each(steps, H, (gamma[:, :, None, None], x6, x10)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x7 = scan.scale(S, gamma_c, own) + x6_c
        x12 = (x10_c[..., None, :] @ x7).squeeze(-2)
        x12_rows.put(x12)
        S = x7
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x12 = x12_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x12_rows
    del x10, x6
    return (x12,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gamma) = args
    H = h0[0].shape[1]
    x6 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (gamma_c, x6_c) in scan.each(steps, H, (gamma[:, :, None, None], x6)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x7 = scan.scale(S, gamma_c, own) + x6_c
        S = x7
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x6
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gamma) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x7 = tiles.addcmul_(gamma[:, :, None, None] * S, k[:, :, :, None], v[:, :, None])
    x9 = (K) ** -0.5
    x10 = q * x9
    x23 = (do[..., None, :] @ x7.mT).squeeze(-2)
    del x7
    x25 = x23 * x9
    del x23
    x44 = do[:, :, None] * x10[:, :, :, None]
    del x10
    x45_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (x44_c, gamma_c) in scan.each(steps, H, (x44, gamma), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x45 = dS + x44_c
        x51 = gamma_c[:, None, None] * x45
        x45_rows.put(x45)
        dS = x51
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x45 = x45_rows.joined()
    del x45_rows
    del x44
    x46 = v[:, :, None] * x45
    x47 = k[:, :, :, None] * x45
    x48 = x46.sum(3)
    del x46
    x49 = x47.sum(2)
    del x47
    x50 = S * x45
    del x45
    x52 = x50.sum(2)
    del x50
    x53 = x52.sum(2)
    del x52
    return (x25, x48, x49, x53), (dS_end,)
