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

from rnnc.ops import scan, tiles

NAME = "dplr"
SPEC_HASH = "921ccc2c3f0bcbde72b631c27c3f77de9b9684188af6f9a85ca434d599d1ef3d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)), ("g", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    S_rows = scan.Rows(steps, H)
    x247_rows = scan.Rows(steps, H)
    x250_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x58_c,
        x237_c,
        x246_c,
        x69_c,
        x245_c,
        x243_c,
        x83_c,
        x353_c,
        v_c,
        x352_c,
    ) in scan.each(
        steps,
        H,
        (
            x58,
            x237,
            x246,
            x69,
            x245,
            x243,
            x83[:, :, :, None],
            x353.mT,
            v,
            x352.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x241 = torch.baddbmm(x237_c, x58_c, S)
        x247 = torch.bmm(x246_c, x241, out=x247_rows.room(n))
        x250 = torch.baddbmm(x245_c, x69_c, S, alpha=x30, out=x250_rows.room(n))
        x250 = scan.addmm(x250, x243_c, x247)
        x360 = scan.addmm(scan.scale(S, x83_c, own), x353_c, v_c)
        x360 = scan.addmm(x360, x352_c, x247)
        if keep:
            x247_rows.put(x247)
        x250_rows.put(x250)
        S = x360
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x250 = x250_rows.joined()
    if keep:
        S = S_rows.joined()
        x247 = x247_rows.joined()
    del S_rows
    del x247_rows
    del x250_rows
    del x237, x245, x352, x353, x58, x69, x83
    return (x250,), (S_end,), (S, x236, x243, x244, x246, x247) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    S_rows = scan.Rows(steps, H)
    x247_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x58_c,
        x237_c,
        x246_c,
        x83_c,
        x353_c,
        v_c,
        x352_c,
    ) in scan.each(
        steps,
        H,
        (
            x58,
            x237,
            x246,
            x83[:, :, :, None],
            x353.mT,
            v,
            x352.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x241 = torch.baddbmm(x237_c, x58_c, S)
        x247 = torch.bmm(x246_c, x241, out=x247_rows.room(n))
        x360 = scan.addmm(scan.scale(S, x83_c, own), x353_c, v_c)
        x360 = scan.addmm(x360, x352_c, x247)
        if keep:
            x247_rows.put(x247)
        S = x360
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x247 = x247_rows.joined()
    del S_rows
    del x247_rows
    del x237, x352, x353, x58, x83
    return (), (S_end,), (S, x236, x243, x244, x246, x247) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, g) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x236, x243, x244, x246, x247) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
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
    x148 = x68 * x143 * x30
    del x68
    x180 = tiles.LOG2E
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
    x352 = valid[:, :, :, None] * x86
    del x86
    x357 = x69 * x143 * x350
    del x143
    x358 = tiles.suffix_sum(x357, 2)
    del x357
    x95_rows = scan.Rows(steps, H, True)
    x97_rows = scan.Rows(steps, H, True)
    x114_rows = scan.Rows(steps, H, True)
    x305_rows = scan.Rows(steps, H, True)
    x374_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x352_c,
        x301_c,
        x246_c,
        v_c,
        x89_c,
        S_c,
        x247_c,
        x83_c,
        x69_c,
        do_c,
        x58_c,
    ) in scan.each(
        steps,
        H,
        (
            x352,
            x301,
            x246.mT,
            v,
            x89,
            S,
            x247,
            x83[:, :, :, None],
            x69.mT,
            do,
            x58.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x373 = torch.baddbmm(x301_c, x352_c, dS)
        x374 = torch.bmm(x246_c, x373, out=x374_rows.room(n))
        x95 = torch.bmm(v_c, dS.mT, out=x95_rows.room(n))
        x97 = torch.bmm(x89_c, dS, out=x97_rows.room(n))
        x113 = S_c * dS
        x114 = x113.sum(2)
        x305 = torch.bmm(x247_c, dS.mT, out=x305_rows.room(n))
        x396 = scan.addmm(scan.scale(dS, x83_c, own), x69_c, do_c, x30)
        x396 = scan.addmm(x396, x58_c, x374)
        x95_rows.put(x95)
        x97_rows.put(x97)
        x114_rows.put(x114)
        x305_rows.put(x305)
        x374_rows.put(x374)
        dS = x396
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x95 = x95_rows.joined()
    x97 = x97_rows.joined()
    x114 = x114_rows.joined()
    x305 = x305_rows.joined()
    x374 = x374_rows.joined()
    del x95_rows
    del x97_rows
    del x114_rows
    del x305_rows
    del x374_rows
    del x301, x352, x69, x89
    x117 = x83 * x114 * x115
    del x114, x83
    x118 = x117[:, :, None].expand(-1, -1, C, -1)
    del x117
    x363 = tiles.addcmul_(x95 * x11, x305, x10)
    x364 = x79 * x363 * x115
    del x363, x79
    x365 = tiles.prefix_sum(x364, 2, exclusive=True)
    del x364
    x376 = x374 @ x247.mT
    x377 = x376.tril(-1)
    del x376
    f1_2 = tiles.decay_factors(x55, exclusive=True)
    x378, x379, x380 = tiles.decay_dot_grads(x377, a_, x10, f1_2, strict=True)
    del x10, x377, x55
    x381 = x374 @ v.mT
    x382 = x236.mT @ x374
    x383, x384, x385 = tiles.decay_dot_grads(x381, a_, x11, f1_2, strict=True)
    del f1_2, x11, x381
    x386 = x374 @ S.mT
    del x374
    x390 = x313 + x379
    del x313, x379
    x394 = x128 + x384
    del x128, x384
    x397 = tiles.addcmul_(x378 + x383, x57, x386)
    del x378, x383, x57
    x398 = tiles.addcmul_(x298 + x382, valid[:, :, :, None], x97)
    del x298, x382, x97
    x399 = x58 * x386 * x115
    del x386, x58
    x400 = tiles.suffix_sum(x399, 2, exclusive=True)
    del x399
    x401 = x118 + x358 + x300 + x365 + x314 + x380 + x385
    x401 = x401 + x400
    del x118, x300, x314, x358, x365, x380, x385, x400
    x402 = (valid * x180)[:, :, :, None] * x401
    del x401
    x403 = tiles.addcmul_(x305 * x351, valid[:, :, :, None], x390)
    del x305, x390
    x404 = tiles.addcmul_(x95 * x351, valid[:, :, :, None], x394)
    del x351, x394, x95
    return (x349, x404, x398, x397, x403, x402), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x7 = torch.exp(g)
    x11 = k[:, :, :, None] * v[:, :, None]
    x14 = (K) ** -0.5
    x15 = q * x14
    S_rows = scan.Rows(steps, H)
    x17_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        x7_c,
        b__c,
        x11_c,
        x15_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            x7[:, :, :, None],
            b_[:, :, :, None],
            x11,
            x15,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x9 = (a__c[..., None, :] @ S).squeeze(-2)
        x12 = tiles.addcmul_(scan.scale(S, x7_c, own) + x11_c, b__c, x9[:, None])
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
    del x11, x15, x7
    return (x17,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, g) = args
    H = h0[0].shape[1]
    x7 = torch.exp(g)
    x11 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        x7_c,
        b__c,
        x11_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            x7[:, :, :, None],
            b_[:, :, :, None],
            x11,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x9 = (a__c[..., None, :] @ S).squeeze(-2)
        x12 = tiles.addcmul_(scan.scale(S, x7_c, own) + x11_c, b__c, x9[:, None])
        S = x12
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x11, x7
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, g) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x7 = torch.exp(g)
    x9 = (a_[..., None, :] @ S).squeeze(-2)
    x12 = tiles.addcmul_(x7[:, :, :, None] * S, b_[:, :, :, None], x9[:, :, None])
    x12 = tiles.addcmul_(x12, k[:, :, :, None], v[:, :, None])
    x14 = (K) ** -0.5
    x15 = q * x14
    x30 = (do[..., None, :] @ x12.mT).squeeze(-2)
    del x12
    x32 = x30 * x14
    del x30
    x59 = do[:, :, None] * x15[:, :, :, None]
    del x15
    x60_rows = scan.Rows(steps, H, True)
    x68_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x59_c,
        b__c,
        a__c,
        x7_c,
    ) in scan.each(
        steps,
        H,
        (
            x59,
            b_,
            a_[:, :, :, None],
            x7[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x60 = dS + x59_c
        x66 = b__c[:, :, None] * x60
        x68 = x66.sum(1)
        x75 = tiles.addcmul_(a__c * x68[:, None], x7_c, x60)
        x60_rows.put(x60)
        x68_rows.put(x68)
        dS = x75
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x60 = x60_rows.joined()
    x68 = x68_rows.joined()
    del x60_rows
    del x68_rows
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
