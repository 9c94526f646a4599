"""delta_net_signed: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + beta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = 2 * sigmoid(b)
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

NAME = "delta_net_signed"
SPEC_HASH = "7ea1704d97fe300aca557aabbd6bf0b5c82460b80505ac05055686c61be91d6b"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("b", ()))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
    x7 = torch.sigmoid(b_)
    x8 = k * k
    x9 = x8.sum(3)
    del x8
    x11 = x9 + 1e-06
    del x9
    x12 = torch.rsqrt(x11)
    del x11
    x31 = k @ k.mT
    x38 = q * q
    x39 = x38.sum(3)
    del x38
    x40 = x39 + 1e-06
    del x39
    x41 = torch.rsqrt(x40)
    del x40
    x45 = q @ k.mT
    x398 = valid * x7
    x399 = x12 * x398
    del x398
    x400 = valid * x7
    del x7
    x401 = x12 * x400
    del x400
    x408 = x399[:, :, :, None] * k
    del x399
    x410 = tiles.product(x31, (x12 * -2)[:, :, :, None], x401[:, :, None])
    del x31
    x411 = tiles.product(x45, (x41 * 2)[:, :, :, None], x401[:, :, None])
    del x401, x45
    x412 = x411.tril(0)
    del x411
    x413 = tiles.inverse(x410)
    del x410
    x485 = x12[:, :, :, None] * k
    del x12
    x488 = x41[:, :, :, None] * q
    del x41
    S_rows = scan.Rows(steps, H)
    x491_rows = scan.Rows(steps, H)
    x494_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x485_c,
        x413_c,
        x488_c,
        x412_c,
        x408_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x485,
            x413,
            x488,
            x412,
            x408.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x487 = torch.baddbmm(v_c, x485_c, S, alpha=-1)
        x491 = torch.bmm(x413_c, x487, out=x491_rows.room(n))
        x494 = torch.bmm(x488_c, S, out=x494_rows.room(n))
        x494 = scan.addmm(x494, x412_c, x491)
        x496 = scan.addmm(scan.scale(S, 1, own), x408_c, x491, 2)
        if keep:
            x491_rows.put(x491)
        x494_rows.put(x494)
        S = x496
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x494 = x494_rows.joined()
    if keep:
        S = S_rows.joined()
        x491 = x491_rows.joined()
    del S_rows
    del x491_rows
    del x494_rows
    del x408, x412, x485, x488
    return (x494,), (S_end,), (S, x413, x491) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    H = h0[0].shape[1]
    x7 = torch.sigmoid(b_)
    x8 = k * k
    x9 = x8.sum(3)
    del x8
    x11 = x9 + 1e-06
    del x9
    x12 = torch.rsqrt(x11)
    del x11
    x31 = k @ k.mT
    x398 = valid * x7
    x399 = x12 * x398
    del x398
    x400 = valid * x7
    del x7
    x401 = x12 * x400
    del x400
    x408 = x399[:, :, :, None] * k
    del x399
    x410 = tiles.product(x31, (x12 * -2)[:, :, :, None], x401[:, :, None])
    del x31, x401
    x413 = tiles.inverse(x410)
    del x410
    x485 = x12[:, :, :, None] * k
    del x12
    S_rows = scan.Rows(steps, H)
    x491_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, x485_c, x413_c, x408_c) in scan.each(steps, H, (v, x485, x413, x408.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x487 = torch.baddbmm(v_c, x485_c, S, alpha=-1)
        x491 = torch.bmm(x413_c, x487, out=x491_rows.room(n))
        x496 = scan.addmm(scan.scale(S, 1, own), x408_c, x491, 2)
        if keep:
            x491_rows.put(x491)
        S = x496
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x491 = x491_rows.joined()
    del S_rows
    del x491_rows
    del x408, x485
    return (), (S_end,), (S, x413, x491) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x413, x414) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x7 = torch.sigmoid(b_)
    x8 = k * k
    x9 = x8.sum(3)
    del x8
    x11 = x9 + 1e-06
    del x9
    x12 = torch.rsqrt(x11)
    del x11
    x13 = x12[:, :, :, None] * k
    x31 = k @ k.mT
    x38 = q * q
    x39 = x38.sum(3)
    del x38
    x40 = x39 + 1e-06
    del x39
    x41 = torch.rsqrt(x40)
    del x40
    x45 = q @ k.mT
    x102 = x41[:, :, :, None] * do
    x105 = do @ S.mT
    x180 = -x7 + 1
    x398 = valid * x7
    x399 = x12 * x398
    x400 = valid * x7
    x401 = x12 * x400
    del x400
    x402 = valid * x12
    x403 = x12 * x12
    x404 = x12 * x403
    del x403
    x405 = x41 * x41
    x406 = x405 * x41
    del x405
    x411 = tiles.product(x45, (x41 * 2)[:, :, :, None], x401[:, :, None])
    x412 = x411.tril(0)
    del x411
    x420 = x412.mT @ do
    del x412
    x426 = do @ x414.mT
    x427 = x426.tril(0)
    del x426
    x428 = x45 * x427
    del x45
    x429 = x41[:, :, :, None] * x428
    x430 = x429.sum(2)
    del x429
    x432 = x401[:, :, None] * x428
    del x428
    x433 = x432.sum(3)
    del x432
    x434 = x401[:, :, None] * x427
    x435 = x434 @ k
    del x434
    x436 = x41[:, :, :, None] * x427
    del x427
    x437 = x436.mT @ q
    del x436
    x453 = x430 * x402
    x459 = x430 * x398
    del x430
    x463 = x399[:, :, :, None] * x437
    del x437
    x497 = q * x105
    x498 = x497.sum(3)
    del x497
    x499 = torch.add(x498, x433, alpha=2)
    del x433, x498
    x500 = x406 * x499
    del x406, x499
    x502 = tiles.addcmul_(x41[:, :, :, None] * x105, x41[:, :, :, None], x435, 2)
    x502 = tiles.addcmul_(x502, x500[:, :, :, None], q, -1)
    del x105, x41, x435, x500
    x510 = x399[:, :, :, None] * k
    x423_rows = scan.Rows(steps, H, True)
    x513_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x510_c,
        x420_c,
        x413_c,
        x414_c,
        q_c,
        x102_c,
        x13_c,
    ) in scan.each(
        steps,
        H,
        (
            x510,
            x420,
            x413.mT,
            x414,
            q.mT,
            x102,
            x13.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x512 = torch.baddbmm(x420_c, x510_c, dS, alpha=2)
        x513 = torch.bmm(x413_c, x512, out=x513_rows.room(n))
        x423 = torch.bmm(x414_c, dS.mT, out=x423_rows.room(n))
        x537 = scan.addmm(scan.scale(dS, 1, own), q_c, x102_c)
        x537 = scan.addmm(x537, x13_c, x513, -1)
        x423_rows.put(x423)
        x513_rows.put(x513)
        dS = x537
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x423 = x423_rows.joined()
    x513 = x513_rows.joined()
    del x423_rows
    del x513_rows
    del x102, x13, x420, x510
    x424 = k * x423
    x425 = x424.sum(3)
    del x424
    x472 = tiles.product(x180, x425, x399)
    x515 = x513 @ x414.mT
    x516 = x515.tril(-1)
    del x515
    x517 = x31 * x516
    del x31
    x518 = x401[:, :, None] * x517
    x519 = x518.sum(3)
    del x518
    x520 = x12[:, :, :, None] * x517
    del x517
    x521 = x520.sum(2)
    del x520
    x523 = x401[:, :, None] * x516
    del x401
    x524 = x523 @ k
    del x523
    x525 = x12[:, :, :, None] * x516
    del x516
    x526 = x525.mT @ k
    del x525
    x528 = tiles.addcmul_(2 * x453, x521, x402, -2)
    del x402, x453
    x529 = tiles.product(x7, x180, x528)
    del x180, x528, x7
    x533 = x513 @ S.mT
    x535 = tiles.addcmul_(-2 * x519, x425, x398, 2)
    del x425, x519
    x538 = torch.add(x529, x472, alpha=2)
    del x472, x529
    x541 = k * x533
    x542 = x541.sum(3)
    del x541
    x543 = tiles.addcmul_(torch.add(-x542, x459, alpha=2), x521, x398, -2)
    del x398, x459, x521, x542
    x545 = tiles.addcmul_(x535 * -1 * x404, x543, x404, -1)
    del x404, x535, x543
    x547 = tiles.addcmul_(2 * x463, x545[:, :, :, None], k)
    x547 = tiles.addcmul_(x547, x399[:, :, :, None], x526, -2)
    x547 = tiles.addcmul_(x547, x399[:, :, :, None], x423, 2)
    x547 = tiles.addcmul_(x547, x12[:, :, :, None], x524, -2)
    x547 = tiles.addcmul_(x547, x12[:, :, :, None], x533, -1)
    del x12, x399, x423, x463, x524, x526, x533, x545
    return (x502, x547, x513, x538), (dS_end,)


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
    x17 = torch.sigmoid(b_)
    x22 = q * q
    x23 = x22.sum(2)
    del x22
    x24 = x23 + 1e-06
    del x23
    x25 = torch.rsqrt(x24)
    del x24
    x26 = x25[:, :, None] * q
    del x25
    x88 = x10 * x17
    del x10, x17
    x122 = x88[:, :, None] * k
    del x88
    S_rows = scan.Rows(steps, H)
    x125_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x12_c, v_c, x122_c, x26_c) in scan.each(steps, H, (x12, v, x122[:, :, :, None], x26)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x124 = tiles.addcmul_(scan.scale(S, 1, own), x122_c, x15[:, None], 2)
        x125 = (x26_c[..., None, :] @ x124).squeeze(-2)
        x125_rows.put(x125)
        S = x124
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x125 = x125_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x125_rows
    del x12, x122, x26
    return (x125,), (S_end,), (S,) if keep else None


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
    x17 = torch.sigmoid(b_)
    x88 = x10 * x17
    del x10, x17
    x122 = x88[:, :, None] * k
    del x88
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x12_c, v_c, x122_c) in scan.each(steps, H, (x12, v, x122[:, :, :, None])):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x124 = tiles.addcmul_(scan.scale(S, 1, own), x122_c, x15[:, None], 2)
        S = x124
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x12, x122
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
    x17 = torch.sigmoid(b_)
    x22 = q * q
    x23 = x22.sum(2)
    del x22
    x24 = x23 + 1e-06
    del x23
    x25 = torch.rsqrt(x24)
    del x24
    x26 = x25[:, :, None] * q
    x62 = -x17 + 1
    x88 = x10 * x17
    x89 = x10 * x88
    x90 = (x88[:, :, None] * k)[:, :, :, None] * x15[:, :, None]
    x91 = torch.add(S, x90, alpha=2)
    del x90
    x93 = (do[..., None, :] @ x91.mT).squeeze(-2)
    del x91
    x94 = do[:, :, None] * x26[:, :, :, None]
    del x26
    x96 = q * x93
    x97 = x96.sum(2)
    del x96
    x98 = tiles.product(x25, x25, x25, x97, (-0.5))
    del x97
    x121 = tiles.addcmul_(x25[:, :, None] * x93, x98[:, :, None], q, 2)
    del x25, x93, x98
    x126 = x89[:, :, None] * k
    del x89
    x100_rows = scan.Rows(steps, H, True)
    x105_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (x94_c, k_c, x126_c) in scan.each(steps, H, (x94, k, x126[:, :, :, None]), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x100 = torch.add(2 * dS, x94_c, alpha=2)
        x104 = k_c[:, :, None] * x100
        x105 = x104.sum(1)
        x128 = tiles.addcmul_(scan.scale(dS, 1, own) + x94_c, x126_c, x105[:, None], -1)
        x100_rows.put(x100)
        x105_rows.put(x105)
        dS = x128
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x100 = x100_rows.joined()
    x105 = x105_rows.joined()
    del x100_rows
    del x105_rows
    del x126, x94
    x101 = x15[:, :, None] * x100
    del x100
    x102 = x101.sum(3)
    del x101
    x106 = x15 * x105
    del x15
    x107 = x106.sum(2)
    del x106
    x109 = x88[:, :, None] * x105
    del x105
    x110 = tiles.product(x107, x62, x88)
    del x62
    x111 = (x109[..., None, :] @ S.mT).squeeze(-2)
    x112 = k * x111
    x113 = x112.sum(2)
    del x112
    x114 = tiles.addcmul_(-x113, x17, x107)
    del x107, x113, x17
    x115 = tiles.product(x10, x10, x10, x114, (-0.5))
    del x114
    x120 = tiles.addcmul_(x88[:, :, None] * x102, x115[:, :, None], k, 2)
    x120 = tiles.addcmul_(x120, x10[:, :, None], x111, -1)
    del x10, x102, x111, x115, x88
    return (x121, x120, x109, x110), (dS_end,)
