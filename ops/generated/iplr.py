"""iplr: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + b @ (S[t-1].T @ a).T + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)

In a chunk of C tokens with the incoming state S_in:
  w1 = b,  f1 = a
  w2 = k,  v_2 = v
  q_ = K**-0.5 * q
  P[i,j] = f[i]^T w[j],  j < i
  U = (I - P_rr)^-1 (f S_in + P_rp v_p)
  _r are the writes that read, _p those that do not: there U = v_
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import tiles

NAME = "iplr"
SPEC_HASH = "8f14e52706863efd7c3a560dcf7acc47bd8e3f8dc7f987b251e7bfcdb6b51e6d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    K = q.shape[3]
    x7 = valid[:, :, :, None] * b_
    x8 = valid[:, :, :, None] * k
    x13 = a_ @ k.mT
    x14 = valid[:, :, None] * x13
    del x13
    x15 = x14.tril(-1)
    del x14
    x17 = x15 @ v
    del x15
    x21 = a_ @ b_.mT
    x22 = valid[:, :, None] * x21
    del x21
    x28 = (K) ** -0.5
    x32 = q @ b_.mT
    x37 = q @ k.mT
    x43 = x8.mT @ v
    del x8
    x183 = tiles.inverse(x22)
    del x22
    x254 = valid * x28
    x255 = x254[:, :, None] * x32
    del x32
    x256 = x255.tril(0)
    del x255
    x257 = x254[:, :, None] * x37
    del x254, x37
    x258 = x257.tril(0)
    del x257
    x259 = x258 @ v
    del x258
    S_all, x267_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x17_c = x17[a:b]
        a__c = a_[a:b]
        q_c = q[a:b]
        x183_c = x183[a:b]
        x43_c = x43[a:b]
        x7_c = x7[a:b]
        x259_c = x259[a:b]
        x256_c = x256[a:b]
        x18 = x17_c + a__c @ S
        x30 = q_c @ S
        x31 = x30 * x28
        x191 = x183_c @ x18
        x196 = tiles.addmm_(S + x43_c, x7_c.mT, x191)
        x267 = tiles.addmm_(x31 + x259_c, x256_c, x191)
        x267_all.append(x267)
        S = x196
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x267 = torch.cat(x267_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x267_all
    del x17, x256, x259, x43, x7
    return (x267,), (S_end,), (S, x183) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_) = args
    x7 = valid[:, :, :, None] * b_
    x8 = valid[:, :, :, None] * k
    x13 = a_ @ k.mT
    x14 = valid[:, :, None] * x13
    del x13
    x15 = x14.tril(-1)
    del x14
    x17 = x15 @ v
    del x15
    x21 = a_ @ b_.mT
    x22 = valid[:, :, None] * x21
    del x21
    x43 = x8.mT @ v
    del x8
    x183 = tiles.inverse(x22)
    del x22
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x17_c = x17[a:b]
        a__c = a_[a:b]
        x183_c = x183[a:b]
        x43_c = x43[a:b]
        x7_c = x7[a:b]
        x18 = x17_c + a__c @ S
        x191 = x183_c @ x18
        x196 = tiles.addmm_(S + x43_c, x7_c.mT, x191)
        S = x196
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x17, x43, x7
    return (), (S_end,), (S, x183) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x183) = kept
    (do,) = douts
    K = q.shape[3]
    x13 = a_ @ k.mT
    x14 = valid[:, :, None] * x13
    del x13
    x15 = x14.tril(-1)
    del x14
    x18 = tiles.addmm_(a_ @ S, x15, v)
    x28 = (K) ** -0.5
    x32 = q @ b_.mT
    x37 = q @ k.mT
    x58 = do @ v.mT
    x61 = x58.tril(0)
    del x58
    x71 = valid[:, :, None] * x61
    x72 = x71 @ k
    del x71
    x73 = x72 * x28
    del x72
    x75 = x61.mT @ q
    del x61
    x103 = do @ S.mT
    x104 = x103 * x28
    del x103
    x106 = q.mT @ do
    x107 = x106 * x28
    del x106
    x191 = x183 @ x18
    del x18
    x234 = do @ x191.mT
    x235 = x234.tril(0)
    del x234
    x236 = valid[:, :, None] * x235
    x237 = x236 @ b_
    del x236
    x238 = x237 * x28
    del x237
    x239 = x235.mT @ q
    del x235
    x252 = x73 + x104 + x238
    del x104, x238, x73
    x253 = valid * x28
    x254 = valid * x28
    x255 = x254[:, :, None] * x32
    del x32
    x256 = x255.tril(0)
    del x255
    x257 = x254[:, :, None] * x37
    del x254, x37
    x258 = x257.tril(0)
    del x257
    x260 = x258.mT @ do
    del x258
    x261 = x256.mT @ do
    del x256
    x265 = x253[:, :, :, None] * x75
    del x75
    x289 = x253[:, :, :, None] * x239
    del x239, x253
    dS_all, x268_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        b__c = b_[a:b]
        x261_c = x261[a:b]
        valid_c = valid[a:b]
        x183_c = x183[a:b]
        x107_c = x107[a:b]
        a__c = a_[a:b]
        x55 = b__c @ dS
        x263 = torch.addcmul(x261_c, valid_c[:, :, :, None], x55)
        x268 = x183_c.mT @ x263
        x281 = tiles.addmm_(dS + x107_c, a__c.mT, x268)
        x268_all.append(x268)
        dS = x281
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x268 = torch.cat(x268_all[::-1])
    del dS_all
    del x268_all
    del x107, x261
    x48 = v @ dS.mT
    x50 = k @ dS
    x233 = x191 @ dS.mT
    del dS
    x270 = x268 @ v.mT
    x271 = x15.mT @ x268
    del x15
    x273 = x270.tril(-1)
    del x270
    x274 = valid[:, :, None] * x273
    x276 = x273.mT @ a_
    del x273
    x282 = tiles.addcmul_(x260 + x271, valid[:, :, :, None], x50)
    del x260, x271, x50
    x283 = torch.addcmul(x265, valid[:, :, :, None], x48)
    x283 = tiles.addcmul_(x283, valid[:, :, :, None], x276)
    del x265, x276, x48
    x284 = x268 @ x191.mT
    del x191
    x285 = x284.tril(-1)
    del x284
    x286 = valid[:, :, None] * x285
    x288 = x285.mT @ a_
    del x285
    x292 = torch.addcmul(x289, valid[:, :, :, None], x288)
    x292 = tiles.addcmul_(x292, valid[:, :, :, None], x233)
    del x233, x288, x289
    x293 = tiles.addmm_(tiles.addmm_(x274 @ k, x268, S.mT), x286, b_)
    del x268, x274, x286
    return (x252, x283, x282, x293, x292), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    K = q.shape[2]
    x8 = k[:, :, :, None] * v[:, :, None]
    x11 = (K) ** -0.5
    x12 = q * x11
    S_all, x14_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        a__c = a_[a:b]
        b__c = b_[a:b]
        x8_c = x8[a:b]
        x12_c = x12[a:b]
        x6 = (a__c[..., None, :] @ S).squeeze(-2)
        x7 = b__c[:, :, :, None] * x6[:, :, None]
        x9 = S + x7 + x8_c
        x14 = (x12_c[..., None, :] @ x9).squeeze(-2)
        x14_all.append(x14)
        S = x9
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x14 = torch.cat(x14_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x14_all
    del x12, x8
    return (x14,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_) = args
    x8 = k[:, :, :, None] * v[:, :, None]
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
        x8_c = x8[a:b]
        x6 = (a__c[..., None, :] @ S).squeeze(-2)
        x7 = b__c[:, :, :, None] * x6[:, :, None]
        x9 = S + x7 + x8_c
        S = x9
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x8
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    x6 = (a_[..., None, :] @ S).squeeze(-2)
    x7 = b_[:, :, :, None] * x6[:, :, None]
    x8 = k[:, :, :, None] * v[:, :, None]
    x9 = S + x7 + x8
    del x7, x8
    x11 = (K) ** -0.5
    x12 = q * x11
    x18 = (do[..., None, :] @ x9.mT).squeeze(-2)
    del x9
    x20 = x18 * x11
    del x18
    x43 = do[:, :, None] * x12[:, :, :, None]
    del x12
    x44_all, x52_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x43_c = x43[a:b]
        b__c = b_[a:b]
        a__c = a_[a:b]
        x44 = dS + x43_c
        x50 = b__c[:, :, :, None] * x44
        x52 = x50.sum(2)
        x54 = a__c[:, :, :, None] * x52[:, :, None]
        x55 = dS + x43_c + x54
        x44_all.append(x44)
        x52_all.append(x52)
        dS = x55
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x44 = torch.cat(x44_all[::-1])
    x52 = torch.cat(x52_all[::-1])
    del x44_all
    del x52_all
    del x43
    x45 = v[:, :, None] * x44
    x46 = k[:, :, :, None] * x44
    x47 = x45.sum(3)
    del x45
    x48 = x46.sum(2)
    del x46
    x49 = x6[:, :, None] * x44
    del x44, x6
    x51 = x49.sum(3)
    del x49
    x53 = (x52[..., None, :] @ S.mT).squeeze(-2)
    del x52
    return (x20, x47, x48, x53, x51), (dS_end,)
