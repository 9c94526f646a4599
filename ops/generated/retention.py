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

from rnnc.ops import tiles

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
    x165 = x164.mT @ v
    del x164
    S_all, x163_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        q_c = q[a:b]
        x54_c = x54[a:b]
        x162_c = x162[a:b]
        x159_c = x159[a:b]
        x165_c = x165[a:b]
        x14 = q_c @ S
        x55 = x54_c[:, :, None, None] * S
        x163 = torch.addcmul(x162_c, x159_c[:, :, :, None], x14)
        x166 = x55 + x165_c
        x163_all.append(x163)
        S = x166
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x163 = torch.cat(x163_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x163_all
    del x159, x162, x165, x54
    return (x163,), (S_end,), (S,) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, gamma) = args
    C = valid.shape[2]
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
    x165 = x164.mT @ v
    del x164
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x54_c = x54[a:b]
        x165_c = x165[a:b]
        x55 = x54_c[:, :, None, None] * S
        x166 = x55 + x165_c
        S = x166
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x165, x54
    return (), (S_end,), (S,) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gamma) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    x10 = (K) ** -0.5
    x14 = q @ S
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
    x108 = x14 * do
    del x14
    x109 = x108.sum(3)
    del x108
    x117 = torch.reciprocal(gamma)
    x118 = tiles.LOG2E
    x124 = x43 * x89
    del x43
    x129 = x124.mT @ q
    x136 = do @ S.mT
    x139 = x40[:, :, :, None] * do
    x140 = q.mT @ x139
    del x139
    x141 = x140 * x10
    del x140
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
    x173 = x40 * x109 * x156
    del x109, x40
    x174 = tiles.suffix_sum(x173, 2)
    del x173
    x179 = x158[:, :, :, None] * x92
    del x92
    x180 = valid[:, :, None] * x124
    del x124
    x181 = x180 @ k
    del x180
    x182 = x181 * x10
    del x181
    x183 = x158[:, :, :, None] * x129
    del x129, x158
    x187 = torch.addcmul(x182, x159[:, :, :, None], x136)
    del x136, x159, x182
    dS_all = []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        x54_c = x54[a:b]
        x141_c = x141[a:b]
        x73 = x54_c[:, :, None, None] * dS
        x149 = x73 + x141_c
        dS = x149
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    del dS_all
    del x141
    x62 = v @ dS.mT
    x64 = k @ dS
    x69 = k * x62
    x70 = x69.sum(3)
    del x69
    x74 = S * dS
    del dS
    x75 = x74.sum(2)
    del x74
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
    x175 = x80 + x170 + x172 + x174
    del x170, x172, x174, x80
    x176 = valid * x175
    del x175
    x177 = x176.sum(2)
    del x176
    x178 = x177 * x117 * x118
    del x117, x177
    x185 = torch.addcmul(x179, x155[:, :, :, None], x64)
    del x179, x64
    x186 = torch.addcmul(x183, x155[:, :, :, None], x62)
    del x155, x183, x62
    return (x187, x186, x185, x178), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gamma) = args
    K = q.shape[2]
    x6 = k[:, :, :, None] * v[:, :, None]
    x9 = (K) ** -0.5
    x10 = q * x9
    S_all, x12_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x6_c = x6[a:b]
        x10_c = x10[a:b]
        x5 = gamma[:, :, None, None] * S
        x7 = x5 + x6_c
        x12 = (x10_c[..., None, :] @ x7).squeeze(-2)
        x12_all.append(x12)
        S = x7
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x12 = torch.cat(x12_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x12_all
    del x10, x6
    return (x12,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gamma) = args
    x6 = k[:, :, :, None] * v[:, :, None]
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x6_c = x6[a:b]
        x5 = gamma[:, :, None, None] * S
        x7 = x5 + x6_c
        S = x7
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x6
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gamma) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    x5 = gamma[:, :, None, None] * S
    x6 = k[:, :, :, None] * v[:, :, None]
    x7 = x5 + x6
    del x5, x6
    x9 = (K) ** -0.5
    x10 = q * x9
    x23 = (do[..., None, :] @ x7.mT).squeeze(-2)
    del x7
    x25 = x23 * x9
    del x23
    x44 = do[:, :, None] * x10[:, :, :, None]
    del x10
    x45_all = []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x44_c = x44[a:b]
        x45 = dS + x44_c
        x51 = gamma[:, :, None, None] * x45
        x45_all.append(x45)
        dS = x51
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x45 = torch.cat(x45_all[::-1])
    del x45_all
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
