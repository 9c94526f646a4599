"""dplr: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + b @ (S[t-1].T @ a).T + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)
  alpha = exp(g)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w1 = b,  f1 = a
  w2 = k,  v_2 = v
  q_ = K**-0.5 * q
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f[i]^T (G[i-1]/G[j]) w[j],  j < i
  U = (I - P_rr)^-1 ((f * G[i-1]) S_in + P_rp v_p)
  _r are the writes that read, _p those that do not: there U = v_
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T U
"""

import torch

from rnnc.ops import tiles

NAME = "dplr"
SPEC_HASH = "921ccc2c3f0bcbde72b631c27c3f77de9b9684188af6f9a85ca434d599d1ef3d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)), ("g", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[3]
    x10 = valid[:, :, :, None] * b_
    x11 = valid[:, :, :, None] * k
    x30 = (K) ** -0.5
    x31 = q * x30
    x54 = g * tiles.LOG2E
    x55 = torch.where(valid[:, :, :, None] > 0, x54, 0)
    del x54
    x56 = tiles.prefix_sum(x55, 2, exclusive=True)
    x57 = torch.exp2(x56)
    del x56
    x58 = a_ * x57
    del x57
    x67 = tiles.prefix_sum(x55, 2)
    x68 = torch.exp2(x67)
    del x67
    x69 = q * x68
    del x68
    x78 = tiles.suffix_sum(x55, 2, exclusive=True)
    x79 = torch.exp2(x78)
    del x78
    x82 = x55.sum(2)
    x83 = torch.exp2(x82)
    del x82
    x86 = b_ * x79
    x89 = k * x79
    del x79
    f1 = tiles.decay_factors(x55, exclusive=True)
    x236 = tiles.decay_dot(a_, x11, f1, strict=True)
    x237 = x236 @ v
    x238 = tiles.decay_dot(a_, x10, f1, strict=True)
    del f1
    f1_2 = tiles.decay_factors(x55)
    x243 = tiles.decay_dot(x31, x10, f1_2)
    del x10
    x244 = tiles.decay_dot(x31, x11, f1_2)
    del f1_2, x11, x31, x55
    x245 = x244 @ v
    x246 = tiles.inverse(x238)
    del x238
    x352 = valid[:, :, :, None] * x86
    del x86
    x353 = valid[:, :, :, None] * x89
    del x89
    x354 = x353.mT @ v
    del x353
    S_all, x250_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x69_c = x69[a:b]
        x237_c = x237[a:b]
        x58_c = x58[a:b]
        x246_c = x246[a:b]
        x245_c = x245[a:b]
        x243_c = x243[a:b]
        x354_c = x354[a:b]
        x83_c = x83[a:b]
        x352_c = x352[a:b]
        x70 = x69_c @ S
        x71 = x70 * x30
        x241 = x237_c + x58_c @ S
        x247 = x246_c @ x241
        x250 = tiles.addmm_(x71 + x245_c, x243_c, x247)
        x360 = torch.addcmul(x354_c, x83_c[:, :, :, None], S)
        x360 = tiles.addmm_(x360, x352_c.mT, x247)
        x250_all.append(x250)
        S = x360
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x250 = torch.cat(x250_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x250_all
    del x237, x245, x352, x354, x58, x69, x83
    return (x250,), (S_end,), (S, x236, x243, x244, x246) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[3]
    x10 = valid[:, :, :, None] * b_
    x11 = valid[:, :, :, None] * k
    x30 = (K) ** -0.5
    x31 = q * x30
    x54 = g * tiles.LOG2E
    x55 = torch.where(valid[:, :, :, None] > 0, x54, 0)
    del x54
    x56 = tiles.prefix_sum(x55, 2, exclusive=True)
    x57 = torch.exp2(x56)
    del x56
    x58 = a_ * x57
    del x57
    x78 = tiles.suffix_sum(x55, 2, exclusive=True)
    x79 = torch.exp2(x78)
    del x78
    x82 = x55.sum(2)
    x83 = torch.exp2(x82)
    del x82
    x86 = b_ * x79
    x89 = k * x79
    del x79
    f1 = tiles.decay_factors(x55, exclusive=True)
    x236 = tiles.decay_dot(a_, x11, f1, strict=True)
    x237 = x236 @ v
    x238 = tiles.decay_dot(a_, x10, f1, strict=True)
    del f1
    f1_2 = tiles.decay_factors(x55)
    x243 = tiles.decay_dot(x31, x10, f1_2)
    del x10
    x244 = tiles.decay_dot(x31, x11, f1_2)
    del f1_2, x11, x31, x55
    x246 = tiles.inverse(x238)
    del x238
    x352 = valid[:, :, :, None] * x86
    del x86
    x353 = valid[:, :, :, None] * x89
    del x89
    x354 = x353.mT @ v
    del x353
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x237_c = x237[a:b]
        x58_c = x58[a:b]
        x246_c = x246[a:b]
        x354_c = x354[a:b]
        x83_c = x83[a:b]
        x352_c = x352[a:b]
        x241 = x237_c + x58_c @ S
        x247 = x246_c @ x241
        x360 = torch.addcmul(x354_c, x83_c[:, :, :, None], S)
        x360 = tiles.addmm_(x360, x352_c.mT, x247)
        S = x360
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x237, x352, x354, x58, x83
    return (), (S_end,), (S, x236, x243, x244, x246) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, g) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x236, x243, x244, x246) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    x10 = valid[:, :, :, None] * b_
    x11 = valid[:, :, :, None] * k
    x30 = (K) ** -0.5
    x31 = q * x30
    x54 = g * tiles.LOG2E
    x55 = torch.where(valid[:, :, :, None] > 0, x54, 0)
    del x54
    x56 = tiles.prefix_sum(x55, 2, exclusive=True)
    x57 = torch.exp2(x56)
    del x56
    x58 = a_ * x57
    x67 = tiles.prefix_sum(x55, 2)
    x68 = torch.exp2(x67)
    del x67
    x69 = q * x68
    x78 = tiles.suffix_sum(x55, 2, exclusive=True)
    x79 = torch.exp2(x78)
    del x78
    x82 = x55.sum(2)
    x83 = torch.exp2(x82)
    del x82
    x86 = b_ * x79
    x89 = k * x79
    x115 = tiles.LN2
    x124 = do @ v.mT
    f1 = tiles.decay_factors(x55)
    x299, x128, x300 = tiles.decay_dot_grads(x124, x31, x11, f1)
    del x124
    x143 = do @ S.mT
    x146 = x69.mT @ do
    x147 = x146 * x30
    del x146
    x148 = x68 * x143 * x30
    del x68
    x180 = tiles.LOG2E
    x241 = tiles.addmm_(x58 @ S, x236, v)
    x247 = x246 @ x241
    del x241
    x298 = x244.mT @ do
    x301 = x243.mT @ do
    x311 = do @ x247.mT
    x312, x313, x314 = tiles.decay_dot_grads(x311, x31, x10, f1)
    del f1, x31, x311
    x334 = x299 + x312
    del x299, x312
    x335 = x334 * x30
    del x334
    x349 = x148 + x335
    del x148, x335
    x350 = x30 * x115
    x351 = valid[:, :, :, None] * x79
    x357 = x69 * x143 * x350
    del x143, x69
    x358 = tiles.suffix_sum(x357, 2)
    del x357
    dS_all, x315_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        x86_c = x86[a:b]
        x301_c = x301[a:b]
        valid_c = valid[a:b]
        x246_c = x246[a:b]
        x147_c = x147[a:b]
        x83_c = x83[a:b]
        x58_c = x58[a:b]
        x106 = x86_c @ dS
        x303 = torch.addcmul(x301_c, valid_c[:, :, :, None], x106)
        x315 = x246_c.mT @ x303
        x344 = torch.addcmul(x147_c, x83_c[:, :, :, None], dS)
        x344 = tiles.addmm_(x344, x58_c.mT, x315)
        x315_all.append(x315)
        dS = x344
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x315 = torch.cat(x315_all[::-1])
    del dS_all
    del x315_all
    del x147, x301, x86
    x95 = v @ dS.mT
    x97 = x89 @ dS
    del x89
    x113 = S * dS
    x114 = x113.sum(3)
    del x113
    x117 = x83 * x114 * x115
    del x114, x83
    x118 = x117[:, :, None].expand(-1, -1, C, -1)
    del x117
    x305 = x247 @ dS.mT
    del dS
    x317 = x315 @ x247.mT
    del x247
    x318 = x317.tril(-1)
    del x317
    f1_2 = tiles.decay_factors(x55, exclusive=True)
    x319, x320, x321 = tiles.decay_dot_grads(x318, a_, x10, f1_2, strict=True)
    del x318, x55
    x322 = x315 @ v.mT
    x323 = x236.mT @ x315
    x324, x325, x326 = tiles.decay_dot_grads(x322, a_, x11, f1_2, strict=True)
    del f1_2, x322
    x327 = x315 @ S.mT
    del x315
    x338 = x313 + x320
    del x313, x320
    x342 = x128 + x325
    del x128, x325
    x346 = tiles.addcmul_(x319 + x324, x57, x327)
    del x319, x324, x57
    x347 = tiles.addcmul_(x298 + x323, valid[:, :, :, None], x97)
    del x298, x323, x97
    x363 = tiles.addcmul_(x95 * x11, x305, x10)
    del x10, x11
    x364 = x79 * x363 * x115
    del x363, x79
    x365 = tiles.prefix_sum(x364, 2, exclusive=True)
    del x364
    x366 = x58 * x327 * x115
    del x327, x58
    x367 = tiles.suffix_sum(x366, 2, exclusive=True)
    del x366
    x368 = x118 + x358 + x300 + x365 + x314 + x321 + x326
    x368 = x368 + x367
    del x118, x300, x314, x321, x326, x358, x365, x367
    x369 = (valid * x180)[:, :, :, None] * x368
    del x368
    x370 = tiles.addcmul_(x305 * x351, valid[:, :, :, None], x338)
    del x305, x338
    x371 = tiles.addcmul_(x95 * x351, valid[:, :, :, None], x342)
    del x342, x351, x95
    return (x349, x371, x347, x346, x370, x369), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[2]
    x7 = torch.exp(g)
    x11 = k[:, :, :, None] * v[:, :, None]
    x14 = (K) ** -0.5
    x15 = q * x14
    S_all, x17_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        a__c = a_[a:b]
        b__c = b_[a:b]
        x11_c = x11[a:b]
        x7_c = x7[a:b]
        x15_c = x15[a:b]
        x9 = (a__c[..., None, :] @ S).squeeze(-2)
        x10 = b__c[:, :, :, None] * x9[:, :, None]
        x12 = tiles.addcmul_(x10 + x11_c, x7_c[:, :, :, None], S)
        x17 = (x15_c[..., None, :] @ x12).squeeze(-2)
        x17_all.append(x17)
        S = x12
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x17 = torch.cat(x17_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x17_all
    del x11, x15, x7
    return (x17,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, g) = args
    x7 = torch.exp(g)
    x11 = k[:, :, :, None] * v[:, :, None]
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        a__c = a_[a:b]
        b__c = b_[a:b]
        x11_c = x11[a:b]
        x7_c = x7[a:b]
        x9 = (a__c[..., None, :] @ S).squeeze(-2)
        x10 = b__c[:, :, :, None] * x9[:, :, None]
        x12 = tiles.addcmul_(x10 + x11_c, x7_c[:, :, :, None], S)
        S = x12
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x11, x7
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, g) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    x7 = torch.exp(g)
    x9 = (a_[..., None, :] @ S).squeeze(-2)
    x10 = b_[:, :, :, None] * x9[:, :, None]
    x11 = k[:, :, :, None] * v[:, :, None]
    x12 = tiles.addcmul_(x10 + x11, x7[:, :, :, None], S)
    del x10, x11
    x14 = (K) ** -0.5
    x15 = q * x14
    x30 = (do[..., None, :] @ x12.mT).squeeze(-2)
    del x12
    x32 = x30 * x14
    del x30
    x59 = do[:, :, None] * x15[:, :, :, None]
    del x15
    x60_all, x68_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x59_c = x59[a:b]
        b__c = b_[a:b]
        a__c = a_[a:b]
        x7_c = x7[a:b]
        x60 = dS + x59_c
        x66 = b__c[:, :, :, None] * x60
        x68 = x66.sum(2)
        x70 = a__c[:, :, :, None] * x68[:, :, None]
        x75 = torch.addcmul(x70, x7_c[:, :, :, None], x60)
        x60_all.append(x60)
        x68_all.append(x68)
        dS = x75
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x60 = torch.cat(x60_all[::-1])
    x68 = torch.cat(x68_all[::-1])
    del x60_all
    del x68_all
    del x59
    x61 = v[:, :, None] * x60
    x62 = k[:, :, :, None] * x60
    x63 = x61.sum(3)
    del x61
    x64 = x62.sum(2)
    del x62
    x65 = x9[:, :, None] * x60
    del x9
    x67 = x65.sum(3)
    del x65
    x69 = (x68[..., None, :] @ S.mT).squeeze(-2)
    del x68
    x72 = S * x60
    del x60
    x73 = x72.sum(3)
    del x72
    x74 = x7 * x73
    del x7, x73
    return (x32, x63, x64, x69, x67, x74), (dS_end,)
