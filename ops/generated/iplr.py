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

from rnnc.ops import scan, tiles

NAME = "iplr"
SPEC_HASH = "8f14e52706863efd7c3a560dcf7acc47bd8e3f8dc7f987b251e7bfcdb6b51e6d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    S_rows = scan.Rows(steps, H)
    x191_rows = scan.Rows(steps, H)
    x267_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        x17_c,
        x183_c,
        q_c,
        x259_c,
        x256_c,
        x8_c,
        v_c,
        x7_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            x17,
            x183,
            q,
            x259,
            x256,
            x8.mT,
            v,
            x7.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x18 = torch.baddbmm(x17_c, a__c, S)
        x191 = torch.bmm(x183_c, x18, out=x191_rows.room(n))
        x267 = torch.baddbmm(x259_c, q_c, S, alpha=x28, out=x267_rows.room(n))
        x267 = scan.addmm(x267, x256_c, x191)
        x196 = scan.addmm(scan.scale(S, 1, own), x8_c, v_c)
        x196 = scan.addmm(x196, x7_c, x191)
        if keep:
            x191_rows.put(x191)
        x267_rows.put(x267)
        S = x196
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x267 = x267_rows.joined()
    if keep:
        S = S_rows.joined()
        x191 = x191_rows.joined()
    del S_rows
    del x191_rows
    del x267_rows
    del x17, x256, x259, x7, x8
    return (x267,), (S_end,), (S, x183, x191) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_) = args
    H = h0[0].shape[1]
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
    x183 = tiles.inverse(x22)
    del x22
    S_rows = scan.Rows(steps, H)
    x191_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        x17_c,
        x183_c,
        x8_c,
        v_c,
        x7_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            x17,
            x183,
            x8.mT,
            v,
            x7.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x18 = torch.baddbmm(x17_c, a__c, S)
        x191 = torch.bmm(x183_c, x18, out=x191_rows.room(n))
        x196 = scan.addmm(scan.scale(S, 1, own), x8_c, v_c)
        x196 = scan.addmm(x196, x7_c, x191)
        if keep:
            x191_rows.put(x191)
        S = x196
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x191 = x191_rows.joined()
    del S_rows
    del x191_rows
    del x17, x7, x8
    return (), (S_end,), (S, x183, x191) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x183, x191) = kept
    (do,) = douts
    K = q.shape[3]
    H = h0[0].shape[1]
    x13 = a_ @ k.mT
    x14 = valid[:, :, None] * x13
    del x13
    x15 = x14.tril(-1)
    del x14
    x28 = (K) ** -0.5
    x32 = q @ b_.mT
    x37 = q @ k.mT
    x58 = do @ v.mT
    x61 = x58.tril(0)
    del x58
    x71 = valid[:, :, None] * x61
    x75 = x61.mT @ q
    del x61
    x234 = do @ x191.mT
    x235 = x234.tril(0)
    del x234
    x236 = valid[:, :, None] * x235
    x239 = x235.mT @ q
    del x235
    x252 = tiles.addmm_(x28 * (x71 @ k), do, S.mT, x28)
    x252 = tiles.addmm_(x252, x236, b_, x28)
    del x236, x71
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
    x294 = valid[:, :, :, None] * b_
    x48_rows = scan.Rows(steps, H, True)
    x50_rows = scan.Rows(steps, H, True)
    x233_rows = scan.Rows(steps, H, True)
    x297_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x294_c,
        x261_c,
        x183_c,
        v_c,
        k_c,
        x191_c,
        q_c,
        do_c,
        a__c,
    ) in scan.each(
        steps,
        H,
        (
            x294,
            x261,
            x183.mT,
            v,
            k,
            x191,
            q.mT,
            do,
            a_.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x296 = torch.baddbmm(x261_c, x294_c, dS)
        x297 = torch.bmm(x183_c, x296, out=x297_rows.room(n))
        x48 = torch.bmm(v_c, dS.mT, out=x48_rows.room(n))
        x50 = torch.bmm(k_c, dS, out=x50_rows.room(n))
        x233 = torch.bmm(x191_c, dS.mT, out=x233_rows.room(n))
        x310 = scan.addmm(scan.scale(dS, 1, own), q_c, do_c, x28)
        x310 = scan.addmm(x310, a__c, x297)
        x48_rows.put(x48)
        x50_rows.put(x50)
        x233_rows.put(x233)
        x297_rows.put(x297)
        dS = x310
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x48 = x48_rows.joined()
    x50 = x50_rows.joined()
    x233 = x233_rows.joined()
    x297 = x297_rows.joined()
    del x48_rows
    del x50_rows
    del x233_rows
    del x297_rows
    del x261, x294
    x299 = x297 @ v.mT
    x300 = x15.mT @ x297
    del x15
    x302 = x299.tril(-1)
    del x299
    x303 = valid[:, :, None] * x302
    x305 = x302.mT @ a_
    del x302
    x311 = tiles.addcmul_(x260 + x300, valid[:, :, :, None], x50)
    del x260, x300, x50
    x312 = torch.addcmul(x265, valid[:, :, :, None], x48)
    x312 = tiles.addcmul_(x312, valid[:, :, :, None], x305)
    del x265, x305, x48
    x313 = x297 @ x191.mT
    x314 = x313.tril(-1)
    del x313
    x315 = valid[:, :, None] * x314
    x317 = x314.mT @ a_
    del x314
    x320 = torch.addcmul(x289, valid[:, :, :, None], x317)
    x320 = tiles.addcmul_(x320, valid[:, :, :, None], x233)
    del x233, x289, x317
    x321 = tiles.addmm_(tiles.addmm_(x303 @ k, x297, S.mT), x315, b_)
    del x297, x303, x315
    return (x252, x312, x311, x321, x320), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x8 = k[:, :, :, None] * v[:, :, None]
    x11 = (K) ** -0.5
    x12 = q * x11
    S_rows = scan.Rows(steps, H)
    x14_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (a__c, b__c, x8_c, x12_c) in scan.each(steps, H, (a_, b_[:, :, :, None], x8, x12)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x6 = (a__c[..., None, :] @ S).squeeze(-2)
        x9 = tiles.addcmul_(scan.scale(S, 1, own) + x8_c, b__c, x6[:, None])
        x14 = (x12_c[..., None, :] @ x9).squeeze(-2)
        x14_rows.put(x14)
        S = x9
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x14 = x14_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x14_rows
    del x12, x8
    return (x14,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_) = args
    H = h0[0].shape[1]
    x8 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (a__c, b__c, x8_c) in scan.each(steps, H, (a_, b_[:, :, :, None], x8)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x6 = (a__c[..., None, :] @ S).squeeze(-2)
        x9 = tiles.addcmul_(scan.scale(S, 1, own) + x8_c, b__c, x6[:, None])
        S = x9
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x8
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x6 = (a_[..., None, :] @ S).squeeze(-2)
    x9 = torch.addcmul(S, b_[:, :, :, None], x6[:, :, None])
    x9 = tiles.addcmul_(x9, k[:, :, :, None], v[:, :, None])
    x11 = (K) ** -0.5
    x12 = q * x11
    x18 = (do[..., None, :] @ x9.mT).squeeze(-2)
    del x9
    x20 = x18 * x11
    del x18
    x43 = do[:, :, None] * x12[:, :, :, None]
    del x12
    x44_rows = scan.Rows(steps, H, True)
    x52_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (x43_c, b__c, a__c) in scan.each(steps, H, (x43, b_, a_[:, :, :, None]), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x44 = dS + x43_c
        x50 = b__c[:, :, None] * x44
        x52 = x50.sum(1)
        x55 = tiles.addcmul_(scan.scale(dS, 1, own) + x43_c, a__c, x52[:, None])
        x44_rows.put(x44)
        x52_rows.put(x52)
        dS = x55
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x44 = x44_rows.joined()
    x52 = x52_rows.joined()
    del x44_rows
    del x52_rows
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
