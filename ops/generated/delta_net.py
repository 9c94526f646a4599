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

from rnnc.ops import scan, tiles

NAME = "delta_net"
SPEC_HASH = "12a979aa2631339bfc2d8e4392013867f5d20b86a5fbff4bd9ff1d886fbd681f"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("b", ()))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
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
    x466 = x11[:, :, :, None] * k
    del x11
    x469 = x40[:, :, :, None] * q
    del x40
    S_rows = scan.Rows(steps, H)
    x472_rows = scan.Rows(steps, H)
    x475_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x466_c,
        x394_c,
        x469_c,
        x393_c,
        x389_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x466,
            x394,
            x469,
            x393,
            x389.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x468 = torch.baddbmm(v_c, x466_c, S, alpha=-1)
        x472 = torch.bmm(x394_c, x468, out=x472_rows.room(n))
        x475 = torch.bmm(x469_c, S, out=x475_rows.room(n))
        x475 = scan.addmm(x475, x393_c, x472)
        x477 = scan.addmm(scan.scale(S, 1, own), x389_c, x472)
        if keep:
            x472_rows.put(x472)
        x475_rows.put(x475)
        S = x477
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x475 = x475_rows.joined()
    if keep:
        S = S_rows.joined()
        x472 = x472_rows.joined()
    del S_rows
    del x472_rows
    del x475_rows
    del x389, x393, x466, x469
    return (x475,), (S_end,), (S, x394, x472) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    H = h0[0].shape[1]
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
    x466 = x11[:, :, :, None] * k
    del x11
    S_rows = scan.Rows(steps, H)
    x472_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, x466_c, x394_c, x389_c) in scan.each(steps, H, (v, x466, x394, x389.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x468 = torch.baddbmm(v_c, x466_c, S, alpha=-1)
        x472 = torch.bmm(x394_c, x468, out=x472_rows.room(n))
        x477 = scan.addmm(scan.scale(S, 1, own), x389_c, x472)
        if keep:
            x472_rows.put(x472)
        S = x477
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x472 = x472_rows.joined()
    del S_rows
    del x472_rows
    del x389, x466
    return (), (S_end,), (S, x394, x472) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x394, x395) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x6 = torch.sigmoid(b_)
    x7 = k * k
    x8 = x7.sum(3)
    del x7
    x10 = x8 + 1e-06
    del x8
    x11 = torch.rsqrt(x10)
    del x10
    x12 = x11[:, :, :, None] * k
    x30 = k @ k.mT
    x37 = q * q
    x38 = x37.sum(3)
    del x37
    x39 = x38 + 1e-06
    del x38
    x40 = torch.rsqrt(x39)
    del x39
    x44 = q @ k.mT
    x85 = x40[:, :, :, None] * do
    x88 = do @ S.mT
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
    x433 = x410 * x383
    x438 = x380[:, :, :, None] * x417
    del x417
    x439 = x410 * x379
    del x410
    x478 = q * x88
    x479 = x478.sum(3)
    del x478
    x480 = x479 + x412
    del x412, x479
    x481 = x387 * x480
    del x387, x480
    x483 = tiles.addcmul_(x40[:, :, :, None] * x88, x40[:, :, :, None], x414)
    x483 = tiles.addcmul_(x483, x481[:, :, :, None], q, -1)
    del x40, x414, x481, x88
    x491 = x380[:, :, :, None] * k
    x404_rows = scan.Rows(steps, H, True)
    x494_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x491_c,
        x401_c,
        x394_c,
        x395_c,
        q_c,
        x85_c,
        x12_c,
    ) in scan.each(
        steps,
        H,
        (
            x491,
            x401,
            x394.mT,
            x395,
            q.mT,
            x85,
            x12.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x493 = torch.baddbmm(x401_c, x491_c, dS)
        x494 = torch.bmm(x394_c, x493, out=x494_rows.room(n))
        x404 = torch.bmm(x395_c, dS.mT, out=x404_rows.room(n))
        x518 = scan.addmm(scan.scale(dS, 1, own), q_c, x85_c)
        x518 = scan.addmm(x518, x12_c, x494, -1)
        x404_rows.put(x404)
        x494_rows.put(x494)
        dS = x518
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x404 = x404_rows.joined()
    x494 = x494_rows.joined()
    del x404_rows
    del x494_rows
    del x12, x401, x491, x85
    x449 = k * x404
    x450 = x449.sum(3)
    del x449
    x454 = tiles.product(x160, x450, x380)
    x496 = x494 @ x395.mT
    x497 = x496.tril(-1)
    del x496
    x498 = x30 * x497
    del x30
    x499 = x382[:, :, None] * x498
    x500 = x499.sum(3)
    del x499
    x501 = x11[:, :, :, None] * x498
    del x498
    x502 = x501.sum(2)
    del x501
    x504 = x382[:, :, None] * x497
    del x382
    x505 = x504 @ k
    del x504
    x506 = x11[:, :, :, None] * x497
    del x497
    x507 = x506.mT @ k
    del x506
    x509 = torch.addcmul(x433, x502, x383, value=-1)
    del x383, x433
    x510 = tiles.product(x6, x160, x509)
    del x160, x509, x6
    x514 = x494 @ S.mT
    x516 = tiles.addcmul_(-x500, x450, x379)
    del x450, x500
    x519 = x510 + x454
    del x454, x510
    x522 = k * x514
    x523 = x522.sum(3)
    del x522
    x524 = tiles.addcmul_(x439 - x523, x502, x379, -1)
    del x379, x439, x502, x523
    x526 = tiles.addcmul_(x516 * -1 * x385, x524, x385, -1)
    del x385, x516, x524
    x528 = torch.addcmul(x438, x380[:, :, :, None], x404)
    x528 = tiles.addcmul_(x528, x526[:, :, :, None], k)
    x528 = tiles.addcmul_(x528, x380[:, :, :, None], x507, -1)
    x528 = tiles.addcmul_(x528, x11[:, :, :, None], x505, -1)
    x528 = tiles.addcmul_(x528, x11[:, :, :, None], x514, -1)
    del x11, x380, x404, x438, x505, x507, x514, x526
    return (x483, x528, x494, x519), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
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
    x119 = x85[:, :, None] * k
    del x85
    S_rows = scan.Rows(steps, H)
    x122_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x12_c, v_c, x119_c, x24_c) in scan.each(steps, H, (x12, v, x119[:, :, :, None], x24)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x121 = tiles.addcmul_(scan.scale(S, 1, own), x119_c, x15[:, None])
        x122 = (x24_c[..., None, :] @ x121).squeeze(-2)
        x122_rows.put(x122)
        S = x121
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x122 = x122_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x122_rows
    del x119, x12, x24
    return (x122,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    H = h0[0].shape[1]
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
    x119 = x85[:, :, None] * k
    del x85
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x12_c, v_c, x119_c) in scan.each(steps, H, (x12, v, x119[:, :, :, None])):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x121 = tiles.addcmul_(scan.scale(S, 1, own), x119_c, x15[:, None])
        S = x121
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x119, x12
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
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
    x93 = q * x90
    x94 = x93.sum(2)
    del x93
    x95 = tiles.product(x23, x23, x23, x94, (-0.5))
    del x94
    x118 = tiles.addcmul_(x23[:, :, None] * x90, x95[:, :, None], q, 2)
    del x23, x90, x95
    x123 = x86[:, :, None] * k
    del x86
    x97_rows = scan.Rows(steps, H, True)
    x102_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (x91_c, k_c, x123_c) in scan.each(steps, H, (x91, k, x123[:, :, :, None]), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x97 = dS + x91_c
        x101 = k_c[:, :, None] * x97
        x102 = x101.sum(1)
        x125 = tiles.addcmul_(scan.scale(dS, 1, own) + x91_c, x123_c, x102[:, None], -1)
        x97_rows.put(x97)
        x102_rows.put(x102)
        dS = x125
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x97 = x97_rows.joined()
    x102 = x102_rows.joined()
    del x97_rows
    del x102_rows
    del x123, x91
    x98 = x15[:, :, None] * x97
    del x97
    x99 = x98.sum(3)
    del x98
    x103 = x15 * x102
    del x15
    x104 = x103.sum(2)
    del x103
    x106 = x85[:, :, None] * x102
    del x102
    x107 = tiles.product(x104, x59, x85)
    del x59
    x108 = (x106[..., None, :] @ S.mT).squeeze(-2)
    x109 = k * x108
    x110 = x109.sum(2)
    del x109
    x111 = tiles.addcmul_(-x110, x16, x104)
    del x104, x110, x16
    x112 = tiles.product(x10, x10, x10, x111, (-0.5))
    del x111
    x117 = tiles.addcmul_(x85[:, :, None] * x99, x112[:, :, None], k, 2)
    x117 = tiles.addcmul_(x117, x10[:, :, None], x108, -1)
    del x10, x108, x112, x85, x99
    return (x118, x117, x106, x107), (dS_end,)
