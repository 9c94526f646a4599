"""delta_net: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + beta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  w = beta * u,  f = -u
  q_ = unit(q)
  P[i,j] = f[i]^T w[j],  j < i
  U = (I - P)^-1 (v + f S_in)
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import tiles

NAME = "delta_net"
SPEC_HASH = "12a979aa2631339bfc2d8e4392013867f5d20b86a5fbff4bd9ff1d886fbd681f"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("b", ()))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    x6 = torch.sigmoid(b_)
    x7 = k * k
    x8 = x7.sum(3)
    del x7
    x10 = x8 + 1e-06
    del x8
    x11 = torch.rsqrt(x10)
    del x10
    x30 = k @ k.mT
    x37 = q * q
    x38 = x37.sum(3)
    del x37
    x39 = x38 + 1e-06
    del x38
    x40 = torch.rsqrt(x39)
    del x39
    x44 = q @ k.mT
    x379 = valid * x6
    x380 = x11 * x379
    del x379
    x381 = valid * x6
    del x6
    x382 = x11 * x381
    del x381
    x389 = x380[:, :, :, None] * k
    del x380
    x391 = tiles.product(x30, (x11 * -1)[:, :, :, None], x382[:, :, None])
    del x30
    x392 = tiles.product(x44, x40[:, :, :, None], x382[:, :, None])
    del x382, x44
    x393 = x392.tril(0)
    del x392
    x394 = tiles.inverse(x391)
    del x391
    S_all, x398_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        v_c = v[a:b]
        x11_c = x11[a:b]
        q_c = q[a:b]
        x394_c = x394[a:b]
        x40_c = x40[a:b]
        x393_c = x393[a:b]
        x389_c = x389[a:b]
        x17 = k_c @ S
        x20 = torch.addcmul(v_c, x11_c[:, :, :, None], x17, value=-1)
        x42 = q_c @ S
        x395 = x394_c @ x20
        x398 = tiles.addmm_(x40_c[:, :, :, None] * x42, x393_c, x395)
        x400 = S + x389_c.mT @ x395
        x398_all.append(x398)
        S = x400
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x398 = torch.cat(x398_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x398_all
    del x11, x389, x393, x40
    return (x398,), (S_end,), (S, x394) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    x6 = torch.sigmoid(b_)
    x7 = k * k
    x8 = x7.sum(3)
    del x7
    x10 = x8 + 1e-06
    del x8
    x11 = torch.rsqrt(x10)
    del x10
    x30 = k @ k.mT
    x379 = valid * x6
    x380 = x11 * x379
    del x379
    x381 = valid * x6
    del x6
    x382 = x11 * x381
    del x381
    x389 = x380[:, :, :, None] * k
    del x380
    x391 = tiles.product(x30, (x11 * -1)[:, :, :, None], x382[:, :, None])
    del x30, x382
    x394 = tiles.inverse(x391)
    del x391
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        v_c = v[a:b]
        x11_c = x11[a:b]
        x394_c = x394[a:b]
        x389_c = x389[a:b]
        x17 = k_c @ S
        x20 = torch.addcmul(v_c, x11_c[:, :, :, None], x17, value=-1)
        x395 = x394_c @ x20
        x400 = S + x389_c.mT @ x395
        S = x400
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x11, x389
    return (), (S_end,), (S, x394) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x394) = kept
    (do,) = douts
    x6 = torch.sigmoid(b_)
    x7 = k * k
    x8 = x7.sum(3)
    del x7
    x10 = x8 + 1e-06
    del x8
    x11 = torch.rsqrt(x10)
    del x10
    x12 = x11[:, :, :, None] * k
    x17 = k @ S
    x20 = torch.addcmul(v, x11[:, :, :, None], x17, value=-1)
    x30 = k @ k.mT
    x37 = q * q
    x38 = x37.sum(3)
    del x37
    x39 = x38 + 1e-06
    del x38
    x40 = torch.rsqrt(x39)
    del x39
    x42 = q @ S
    x44 = q @ k.mT
    x84 = x42 * do
    del x42
    x85 = x40[:, :, :, None] * do
    x86 = x84.sum(3)
    del x84
    x88 = do @ S.mT
    x91 = q.mT @ x85
    del x85
    x160 = -x6 + 1
    x379 = valid * x6
    x380 = x11 * x379
    x381 = valid * x6
    x382 = x11 * x381
    del x381
    x383 = valid * x11
    x384 = x11 * x11
    x385 = x11 * x384
    del x384
    x386 = x40 * x40
    x387 = x386 * x40
    del x386
    x392 = tiles.product(x44, x40[:, :, :, None], x382[:, :, None])
    x393 = x392.tril(0)
    del x392
    x395 = x394 @ x20
    del x20
    x401 = x393.mT @ do
    del x393
    x405 = do @ x395.mT
    x406 = x405.tril(0)
    del x405
    x407 = x44 * x406
    del x44
    x408 = x382[:, :, None] * x407
    x409 = x40[:, :, :, None] * x407
    del x407
    x410 = x409.sum(2)
    del x409
    x412 = x408.sum(3)
    del x408
    x413 = x382[:, :, None] * x406
    x414 = x413 @ k
    del x413
    x416 = x40[:, :, :, None] * x406
    del x406
    x417 = x416.mT @ q
    del x416
    x418 = x86 + x412
    del x412, x86
    x433 = x410 * x383
    x438 = x380[:, :, :, None] * x417
    del x417
    x439 = x410 * x379
    del x410
    x463 = x387 * x418
    del x387, x418
    x465 = tiles.addcmul_(x40[:, :, :, None] * x88, x40[:, :, :, None], x414)
    x465 = tiles.addcmul_(x465, x463[:, :, :, None], q, -1)
    del x40, x414, x463, x88
    dS_all, x419_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        k_c = k[a:b]
        x401_c = x401[a:b]
        x380_c = x380[a:b]
        x394_c = x394[a:b]
        x91_c = x91[a:b]
        x12_c = x12[a:b]
        x57 = k_c @ dS
        x403 = torch.addcmul(x401_c, x380_c[:, :, :, None], x57)
        x419 = x394_c.mT @ x403
        x455 = tiles.addmm_(dS + x91_c, x12_c.mT, x419, -1)
        x419_all.append(x419)
        dS = x455
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x419 = torch.cat(x419_all[::-1])
    del dS_all
    del x419_all
    del x12, x401, x91
    x404 = x395 @ dS.mT
    del dS
    x421 = x419 @ x395.mT
    del x395
    x422 = x421.tril(-1)
    del x421
    x423 = x30 * x422
    del x30
    x424 = x382[:, :, None] * x423
    x425 = x424.sum(3)
    del x424
    x426 = x11[:, :, :, None] * x423
    del x423
    x427 = x426.sum(2)
    del x426
    x429 = x382[:, :, None] * x422
    del x382
    x430 = x429 @ k
    del x429
    x431 = x11[:, :, :, None] * x422
    del x422
    x432 = x431.mT @ k
    del x431
    x435 = torch.addcmul(x433, x427, x383, value=-1)
    del x383, x433
    x436 = tiles.product(x6, x160, x435)
    del x435, x6
    x440 = x17 * x419
    del x17
    x441 = x440.sum(3)
    del x440
    x443 = tiles.addcmul_(x439 - x441, x427, x379, -1)
    del x427, x439, x441
    x446 = x419 @ S.mT
    x449 = k * x404
    x450 = x449.sum(3)
    del x449
    x452 = tiles.addcmul_(-x425, x450, x379)
    del x379, x425
    x454 = tiles.product(x160, x450, x380)
    del x160, x450
    x456 = x436 + x454
    del x436, x454
    x460 = tiles.addcmul_(x452 * -1 * x385, x443, x385, -1)
    del x385, x443, x452
    x462 = torch.addcmul(x438, x380[:, :, :, None], x404)
    x462 = tiles.addcmul_(x462, x460[:, :, :, None], k)
    x462 = tiles.addcmul_(x462, x380[:, :, :, None], x432, -1)
    x462 = tiles.addcmul_(x462, x11[:, :, :, None], x430, -1)
    x462 = tiles.addcmul_(x462, x11[:, :, :, None], x446, -1)
    del x11, x380, x404, x430, x432, x438, x446, x460
    return (x465, x462, x419, x456), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    x6 = k * k
    x7 = x6.sum(2)
    del x6
    x9 = x7 + 1e-06
    del x7
    x10 = torch.rsqrt(x9)
    del x9
    x12 = (x10 * -1)[:, :, None] * k
    x16 = torch.sigmoid(b_)
    x20 = q * q
    x21 = x20.sum(2)
    del x20
    x22 = x21 + 1e-06
    del x21
    x23 = torch.rsqrt(x22)
    del x22
    x24 = x23[:, :, None] * q
    del x23
    x85 = x10 * x16
    del x10, x16
    S_all, x89_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x12_c = x12[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x85_c = x85[a:b]
        x24_c = x24[a:b]
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x87 = (x85_c[:, :, None] * k_c)[:, :, :, None] * x15[:, :, None]
        x88 = S + x87
        x89 = (x24_c[..., None, :] @ x88).squeeze(-2)
        x89_all.append(x89)
        S = x88
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x89 = torch.cat(x89_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x89_all
    del x12, x24, x85
    return (x89,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    x6 = k * k
    x7 = x6.sum(2)
    del x6
    x9 = x7 + 1e-06
    del x7
    x10 = torch.rsqrt(x9)
    del x9
    x12 = (x10 * -1)[:, :, None] * k
    x16 = torch.sigmoid(b_)
    x85 = x10 * x16
    del x10, x16
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x12_c = x12[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x85_c = x85[a:b]
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x87 = (x85_c[:, :, None] * k_c)[:, :, :, None] * x15[:, :, None]
        x88 = S + x87
        S = x88
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x12, x85
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    x6 = k * k
    x7 = x6.sum(2)
    del x6
    x9 = x7 + 1e-06
    del x7
    x10 = torch.rsqrt(x9)
    del x9
    x12 = (x10 * -1)[:, :, None] * k
    x14 = (x12[..., None, :] @ S).squeeze(-2)
    del x12
    x15 = v + x14
    del x14
    x16 = torch.sigmoid(b_)
    x20 = q * q
    x21 = x20.sum(2)
    del x20
    x22 = x21 + 1e-06
    del x21
    x23 = torch.rsqrt(x22)
    del x22
    x24 = x23[:, :, None] * q
    x59 = -x16 + 1
    x85 = x10 * x16
    x86 = x10 * x85
    x87 = (x85[:, :, None] * k)[:, :, :, None] * x15[:, :, None]
    x88 = S + x87
    del x87
    x90 = (do[..., None, :] @ x88.mT).squeeze(-2)
    del x88
    x91 = do[:, :, None] * x24[:, :, :, None]
    del x24
    x92 = x23[:, :, None] * x90
    x93 = q * x90
    del x90
    x94 = x93.sum(2)
    del x93
    x95 = tiles.product(x23, x23, x23, x94, (-0.5))
    del x23, x94
    x96 = x95[:, :, None] * q
    del x95
    x118 = torch.add(x92, x96, alpha=2)
    del x92, x96
    x97_all, x102_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x91_c = x91[a:b]
        k_c = k[a:b]
        x86_c = x86[a:b]
        x97 = dS + x91_c
        x101 = k_c[:, :, :, None] * x97
        x102 = x101.sum(2)
        x114 = (x86_c[:, :, None] * k_c)[:, :, :, None] * x102[:, :, None]
        x115 = dS + x91_c - x114
        x97_all.append(x97)
        x102_all.append(x102)
        dS = x115
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x97 = torch.cat(x97_all[::-1])
    x102 = torch.cat(x102_all[::-1])
    del x97_all
    del x102_all
    del x86, x91
    x98 = x15[:, :, None] * x97
    del x97
    x99 = x98.sum(3)
    del x98
    x100 = x85[:, :, None] * x99
    del x99
    x103 = x15 * x102
    del x15
    x104 = x103.sum(2)
    del x103
    x105 = x16 * x104
    del x16
    x106 = x85[:, :, None] * x102
    del x102
    x107 = tiles.product(x104, x59, x85)
    del x104, x59, x85
    x108 = (x106[..., None, :] @ S.mT).squeeze(-2)
    x109 = k * x108
    x110 = x109.sum(2)
    del x109
    x111 = x105 - x110
    del x105, x110
    x112 = tiles.product(x10, x10, x10, x111, (-0.5))
    del x111
    x113 = x112[:, :, None] * k
    del x112
    x116 = x10[:, :, None] * x108
    del x10, x108
    x117 = torch.add(x100, x113, alpha=2) - x116
    del x100, x113, x116
    return (x118, x117, x106, x107), (dS_end,)
