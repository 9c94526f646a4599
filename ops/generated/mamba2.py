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

from rnnc.ops import tiles

NAME = "mamba2"
SPEC_HASH = "01ab9cd6976c6615f7b246b1665bfe3b7f44774d46533ea351d227f9dba49ac9"
INPUTS = (("u", ("P",)), ("dt", ()), ("B", ("N",)), ("C", ("N",)))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("D", ()))
STATES = (("S", ("N", "P")),)
OUTPUTS = (("o", ("P",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
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
    x198 = x197.mT @ u
    del x197
    x213 = x195[:, :, None] * x53
    del x195, x53
    x214 = x213 @ u
    del x213
    S_all, x215_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        C__c = C_[a:b]
        x61_c = x61[a:b]
        x198_c = x198[a:b]
        x36_c = x36[a:b]
        x214_c = x214[a:b]
        x48_c = x48[a:b]
        x20 = C__c @ S
        x62 = x61_c[:, :, None, None] * S
        x199 = x62 + x198_c
        x215 = tiles.addcmul_(x36_c + x214_c, x48_c[:, :, :, None], x20)
        x215_all.append(x215)
        S = x199
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x215 = torch.cat(x215_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x215_all
    del x198, x214, x36, x48, x61
    return (x215,), (S_end,), (S,) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
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
    x198 = x197.mT @ u
    del x197
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x61_c = x61[a:b]
        x198_c = x198[a:b]
        x62 = x61_c[:, :, None, None] * S
        x199 = x62 + x198_c
        S = x199
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x198, x61
    return (), (S_end,), (S,) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    C = valid.shape[2]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None] * x12
    x20 = C_ @ S
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
    x110 = x20 * do
    del x20
    x111 = x110.sum(3)
    del x110
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
    x145 = C_.mT @ x109
    del x109
    x192 = x53 * x94
    del x53, x94
    x193 = valid * x12
    x194 = x57 * x193
    x195 = valid * x12
    del x12
    x196 = x10 * x118
    del x10
    x204 = x192.sum(2)
    x205 = x48 * x111 * x86
    del x111
    x206 = tiles.suffix_sum(x205, 2)
    del x205
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
    del x142, x216, x48
    dS_all = []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        x61_c = x61[a:b]
        x145_c = x145[a:b]
        x82 = x61_c[:, :, None, None] * dS
        x157 = x82 + x145_c
        dS = x157
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    del dS_all
    del x145
    x69 = u @ dS.mT
    x71 = B @ dS
    x77 = B * x69
    x78 = x77.sum(3)
    del x77
    x80 = tiles.product(valid, x57, x78)
    del x57
    x83 = S * dS
    del dS
    x84 = x83.sum(2)
    del x83
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
    x219 = x89 + x203 + x206 + x218
    del x203, x206, x218, x89
    x223 = x219 * x193
    del x193
    x224 = x223.sum(2)
    del x223
    x225 = tiles.product(valid, x219, x196[:, :, None])
    del x219
    x226 = x80 - x225
    del x225, x80
    x227 = x136 * x226
    del x136, x226
    x228 = x227.sum(2)
    x229 = x224 * x196 * -1
    del x196, x224
    x230 = x222 + x228
    del x222, x228
    x232 = x209 + x227
    del x209, x227
    return (x212, x232, x211, x231, x229, x230, x123), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
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
    S_all, x73_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x69_c = x69[a:b]
        x16_c = x16[a:b]
        C__c = C_[a:b]
        x19_c = x19[a:b]
        x70 = x69_c[:, :, None, None] * S
        x71 = x70 + x16_c
        x72 = (C__c[..., None, :] @ x71).squeeze(-2)
        x73 = x72 + x19_c
        x73_all.append(x73)
        S = x71
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x73 = torch.cat(x73_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x73_all
    del x16, x19, x69
    return (x73,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
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
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x69_c = x69[a:b]
        x16_c = x16[a:b]
        x70 = x69_c[:, :, None, None] * S
        x71 = x70 + x16_c
        S = x71
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x16, x69
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
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
    x70 = x69[:, :, None, None] * S
    x71 = x70 + x16
    del x16, x70
    x74 = (do[..., None, :] @ x71.mT).squeeze(-2)
    del x71
    x39_all = []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x38_c = x38[a:b]
        x69_c = x69[a:b]
        x39 = dS + x38_c
        x75 = x69_c[:, :, None, None] * x39
        x39_all.append(x39)
        dS = x75
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x39 = torch.cat(x39_all[::-1])
    del x39_all
    del x38
    x43 = B[:, :, :, None] * x39
    x44 = x43.sum(2)
    del x43
    x45 = x11[:, :, None] * x44
    x46 = u[:, :, None] * x39
    x47 = x46.sum(3)
    del x46
    x48 = x11[:, :, None] * x47
    del x11, x47
    x49 = u * x44
    del x44
    x50 = x49.sum(2)
    del x49
    x52 = S * x39
    del x39
    x53 = x52.sum(2)
    del x52
    x54 = x53.sum(2)
    del x53
    x65 = x33 + x45
    del x33, x45
    x76 = x69 * x54
    del x54, x69
    x77 = x9 * x76
    del x9
    x78 = x50 - x77
    del x50, x77
    x79 = x78 * x60
    del x60, x78
    x80 = x76 * x67 * -1
    del x67, x76
    return (x65, x79, x48, x74, x80, x79, x35), (dS_end,)
