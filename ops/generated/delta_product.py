"""delta_product: generated from its spec by rnnc; do not edit.

S[t] = S[t-1]
for i in n:
    S[t] <- S[t] + beta[i] * u @ (v[i] - S[t].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = 2 * sigmoid(b)
  u = unit(k[i])

In a chunk of C tokens with the incoming state S_in:
  w = beta[i] * u,  f = -u
  q_ = unit(q)
  one row m for each of the n micro-steps of a token, t(m) its token
  P[m,l] = f[m]^T w[l],  l < m
  U = (I - P)^-1 (v + f S_in)
  A[i,l] = q_[i]^T w[l],  t(l) <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "delta_product"
SPEC_HASH = "78201026a33018adf7a7cd20551413527533c29d247093336afaa4a02ec6db3c"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("b", ("n",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    n_ = k.shape[3]
    H = h0[0].shape[1]
    x16 = k.flatten(2, 3)
    x17 = valid[:, :, :, None].expand(-1, -1, -1, n_)
    x18 = x17.flatten(2, 3)
    del x17
    x19 = b_.flatten(2, 3)
    x20 = torch.sigmoid(x19)
    del x19
    x21 = x16 * x16
    x22 = x21.sum(3)
    del x21
    x23 = x22 + 1e-06
    del x22
    x24 = torch.rsqrt(x23)
    del x23
    x26 = v.flatten(2, 3)
    x43 = x16 @ x16.mT
    x50 = q * q
    x51 = x50.sum(3)
    del x50
    x52 = x51 + 1e-06
    del x51
    x53 = torch.rsqrt(x52)
    del x52
    x57 = q @ x16.mT
    x422 = x18 * x20
    x423 = x24 * x422
    del x422
    x424 = x18 * x20
    del x18, x20
    x425 = x24 * x424
    del x424
    x432 = x423[:, :, :, None] * x16
    del x423
    x434 = tiles.product(x43, (x24 * -2)[:, :, :, None], x425[:, :, None])
    del x43
    x435 = tiles.product(x57, (x53 * 2)[:, :, :, None], x425[:, :, None])
    del x425, x57
    x436 = tiles.mask_tokens(x435)
    del x435
    x437 = tiles.inverse(x434)
    del x434
    x512 = x24[:, :, :, None] * x16
    del x16, x24
    x515 = x53[:, :, :, None] * q
    del x53
    S_rows = scan.Rows(steps, H)
    x518_rows = scan.Rows(steps, H)
    x521_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x26_c,
        x512_c,
        x437_c,
        x515_c,
        x436_c,
        x432_c,
    ) in scan.each(
        steps,
        H,
        (
            x26,
            x512,
            x437,
            x515,
            x436,
            x432.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x514 = torch.baddbmm(x26_c, x512_c, S, alpha=-1)
        x518 = torch.bmm(x437_c, x514, out=x518_rows.room(n))
        x521 = torch.bmm(x515_c, S, out=x521_rows.room(n))
        x521 = scan.addmm(x521, x436_c, x518)
        x523 = scan.addmm(scan.scale(S, 1, own), x432_c, x518, 2)
        if keep:
            x518_rows.put(x518)
        x521_rows.put(x521)
        S = x523
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x521 = x521_rows.joined()
    if keep:
        S = S_rows.joined()
        x518 = x518_rows.joined()
    del S_rows
    del x518_rows
    del x521_rows
    del x26, x432, x436, x512, x515
    return (x521,), (S_end,), (S, x437, x518) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    n_ = k.shape[3]
    H = h0[0].shape[1]
    x16 = k.flatten(2, 3)
    x17 = valid[:, :, :, None].expand(-1, -1, -1, n_)
    x18 = x17.flatten(2, 3)
    del x17
    x19 = b_.flatten(2, 3)
    x20 = torch.sigmoid(x19)
    del x19
    x21 = x16 * x16
    x22 = x21.sum(3)
    del x21
    x23 = x22 + 1e-06
    del x22
    x24 = torch.rsqrt(x23)
    del x23
    x26 = v.flatten(2, 3)
    x43 = x16 @ x16.mT
    x422 = x18 * x20
    x423 = x24 * x422
    del x422
    x424 = x18 * x20
    del x18, x20
    x425 = x24 * x424
    del x424
    x432 = x423[:, :, :, None] * x16
    del x423
    x434 = tiles.product(x43, (x24 * -2)[:, :, :, None], x425[:, :, None])
    del x425, x43
    x437 = tiles.inverse(x434)
    del x434
    x512 = x24[:, :, :, None] * x16
    del x16, x24
    S_rows = scan.Rows(steps, H)
    x518_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x26_c, x512_c, x437_c, x432_c) in scan.each(steps, H, (x26, x512, x437, x432.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x514 = torch.baddbmm(x26_c, x512_c, S, alpha=-1)
        x518 = torch.bmm(x437_c, x514, out=x518_rows.room(n))
        x523 = scan.addmm(scan.scale(S, 1, own), x432_c, x518, 2)
        if keep:
            x518_rows.put(x518)
        S = x523
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x518 = x518_rows.joined()
    del S_rows
    del x518_rows
    del x26, x432, x512
    return (), (S_end,), (S, x437, x518) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x437, x438) = kept
    (do,) = douts
    n_ = k.shape[3]
    H = h0[0].shape[1]
    x16 = k.flatten(2, 3)
    x17 = valid[:, :, :, None].expand(-1, -1, -1, n_)
    x18 = x17.flatten(2, 3)
    del x17
    x19 = b_.flatten(2, 3)
    x20 = torch.sigmoid(x19)
    del x19
    x21 = x16 * x16
    x22 = x21.sum(3)
    del x21
    x23 = x22 + 1e-06
    del x22
    x24 = torch.rsqrt(x23)
    del x23
    x43 = x16 @ x16.mT
    x50 = q * q
    x51 = x50.sum(3)
    del x50
    x52 = x51 + 1e-06
    del x51
    x53 = torch.rsqrt(x52)
    del x52
    x57 = q @ x16.mT
    x114 = x53[:, :, :, None] * do
    x117 = do @ S.mT
    x192 = -x20 + 1
    x332 = x24[:, :, :, None] * x16
    x422 = x18 * x20
    x423 = x24 * x422
    x424 = x18 * x20
    x425 = x24 * x424
    del x424
    x426 = x18 * x24
    del x18
    x427 = x24 * x24
    x428 = x24 * x427
    del x427
    x429 = x53 * x53
    x430 = x429 * x53
    del x429
    x435 = tiles.product(x57, (x53 * 2)[:, :, :, None], x425[:, :, None])
    x436 = tiles.mask_tokens(x435)
    del x435
    x444 = x436.mT @ do
    del x436
    x450 = do @ x438.mT
    x451 = tiles.mask_tokens(x450)
    del x450
    x452 = x57 * x451
    del x57
    x453 = x53[:, :, :, None] * x452
    x454 = x453.sum(2)
    del x453
    x456 = x425[:, :, None] * x452
    del x452
    x457 = x456.sum(3)
    del x456
    x458 = x425[:, :, None] * x451
    x459 = x458 @ x16
    del x458
    x460 = x53[:, :, :, None] * x451
    del x451
    x461 = x460.mT @ q
    del x460
    x477 = x454 * x426
    x483 = x454 * x422
    del x454
    x487 = x423[:, :, :, None] * x461
    del x461
    x524 = q * x117
    x525 = x524.sum(3)
    del x524
    x526 = torch.add(x525, x457, alpha=2)
    del x457, x525
    x527 = x430 * x526
    del x430, x526
    x529 = tiles.addcmul_(x53[:, :, :, None] * x117, x53[:, :, :, None], x459, 2)
    x529 = tiles.addcmul_(x529, x527[:, :, :, None], q, -1)
    del x117, x459, x527, x53
    x538 = x423[:, :, :, None] * x16
    x447_rows = scan.Rows(steps, H, True)
    x541_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x538_c,
        x444_c,
        x437_c,
        x438_c,
        q_c,
        x114_c,
        x332_c,
    ) in scan.each(
        steps,
        H,
        (
            x538,
            x444,
            x437.mT,
            x438,
            q.mT,
            x114,
            x332.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x540 = torch.baddbmm(x444_c, x538_c, dS, alpha=2)
        x541 = torch.bmm(x437_c, x540, out=x541_rows.room(n))
        x447 = torch.bmm(x438_c, dS.mT, out=x447_rows.room(n))
        x570 = scan.addmm(scan.scale(dS, 1, own), q_c, x114_c)
        x570 = scan.addmm(x570, x332_c, x541, -1)
        x447_rows.put(x447)
        x541_rows.put(x541)
        dS = x570
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x447 = x447_rows.joined()
    x541 = x541_rows.joined()
    del x447_rows
    del x541_rows
    del x114, x332, x444, x538
    x448 = x16 * x447
    x449 = x448.sum(3)
    del x448
    x496 = tiles.product(x192, x449, x423)
    x543 = x541 @ x438.mT
    x544 = x543.tril(-1)
    del x543
    x545 = x43 * x544
    del x43
    x546 = x425[:, :, None] * x545
    x547 = x546.sum(3)
    del x546
    x548 = x24[:, :, :, None] * x545
    del x545
    x549 = x548.sum(2)
    del x548
    x551 = x425[:, :, None] * x544
    del x425
    x552 = x551 @ x16
    del x551
    x553 = x24[:, :, :, None] * x544
    del x544
    x554 = x553.mT @ x16
    del x553
    x556 = tiles.addcmul_(2 * x477, x549, x426, -2)
    del x426, x477
    x557 = tiles.product(x20, x192, x556)
    del x192, x20, x556
    x561 = x541 @ S.mT
    x563 = x541.unflatten(2, (-1, n_))
    del x541
    x564 = tiles.addcmul_(-2 * x547, x449, x422, 2)
    del x449, x547
    x566 = torch.add(x557, x496, alpha=2)
    del x496, x557
    x567 = x566.unflatten(2, (-1, n_))
    del x566
    x571 = x16 * x561
    x572 = x571.sum(3)
    del x571
    x573 = tiles.addcmul_(torch.add(-x572, x483, alpha=2), x549, x422, -2)
    del x422, x483, x549, x572
    x575 = tiles.addcmul_(x564 * -1 * x428, x573, x428, -1)
    del x428, x564, x573
    x577 = tiles.addcmul_(2 * x487, x575[:, :, :, None], x16)
    x577 = tiles.addcmul_(x577, x423[:, :, :, None], x554, -2)
    x577 = tiles.addcmul_(x577, x423[:, :, :, None], x447, 2)
    x577 = tiles.addcmul_(x577, x24[:, :, :, None], x552, -2)
    x577 = tiles.addcmul_(x577, x24[:, :, :, None], x561, -1)
    del x16, x24, x423, x447, x487, x552, x554, x561, x575
    x578 = x577.unflatten(2, (-1, n_))
    del x577
    return (x529, x578, x563, x567), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    H = h0[0].shape[1]
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x19 = x18 + 1e-06
    del x18
    x20 = torch.rsqrt(x19)
    del x19
    x38 = k @ k.mT
    x49 = q * q
    x50 = x49.sum(2)
    del x49
    x51 = x50 + 1e-06
    del x50
    x52 = torch.rsqrt(x51)
    del x51
    x53 = x52[:, :, None] * q
    del x52
    x338 = x16 * x20
    x339 = x16 * x20
    del x16
    x343 = x339[:, :, :, None] * k
    del x339
    x347 = tiles.product(x38, (x20 * -2)[:, :, :, None], x338[:, :, None])
    del x338, x38
    x348 = tiles.inverse(x347)
    del x347
    x406 = x20[:, :, :, None] * k
    del x20
    S_rows = scan.Rows(steps, H)
    x410_rows = scan.Rows(steps, H)
    x413_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, x406_c, x348_c, x343_c, x53_c) in scan.each(steps, H, (v, x406, x348, x343.mT, x53)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x408 = torch.baddbmm(v_c, x406_c, S, alpha=-1)
        x410 = torch.bmm(x348_c, x408, out=x410_rows.room(n))
        x412 = scan.addmm(scan.scale(S, 1, own), x343_c, x410, 2)
        x413 = (x53_c[..., None, :] @ x412).squeeze(-2)
        if keep:
            x410_rows.put(x410)
        x413_rows.put(x413)
        S = x412
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x413 = x413_rows.joined()
    if keep:
        S = S_rows.joined()
        x410 = x410_rows.joined()
    del S_rows
    del x410_rows
    del x413_rows
    del x343, x406, x53
    return (x413,), (S_end,), (S, x348, x410) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    H = h0[0].shape[1]
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x19 = x18 + 1e-06
    del x18
    x20 = torch.rsqrt(x19)
    del x19
    x38 = k @ k.mT
    x338 = x16 * x20
    x339 = x16 * x20
    del x16
    x343 = x339[:, :, :, None] * k
    del x339
    x347 = tiles.product(x38, (x20 * -2)[:, :, :, None], x338[:, :, None])
    del x338, x38
    x348 = tiles.inverse(x347)
    del x347
    x406 = x20[:, :, :, None] * k
    del x20
    S_rows = scan.Rows(steps, H)
    x410_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, x406_c, x348_c, x343_c) in scan.each(steps, H, (v, x406, x348, x343.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x408 = torch.baddbmm(v_c, x406_c, S, alpha=-1)
        x410 = torch.bmm(x348_c, x408, out=x410_rows.room(n))
        x412 = scan.addmm(scan.scale(S, 1, own), x343_c, x410, 2)
        if keep:
            x410_rows.put(x410)
        S = x412
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x410 = x410_rows.joined()
    del S_rows
    del x410_rows
    del x343, x406
    return (), (S_end,), (S, x348, x410) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, x348, x349) = kept
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
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x19 = x18 + 1e-06
    del x18
    x20 = torch.rsqrt(x19)
    del x19
    x26 = k @ S
    x38 = k @ k.mT
    x49 = q * q
    x50 = x49.sum(2)
    del x49
    x51 = x50 + 1e-06
    del x50
    x52 = torch.rsqrt(x51)
    del x51
    x53 = x52[:, :, None] * q
    x137 = -x6 + 1
    x256 = x20[:, :, :, None] * k
    x334 = x6 * x11
    x335 = x11 * x11
    x336 = x11 * x335
    del x335
    x337 = x137 * x334
    del x137
    x338 = x16 * x20
    x339 = x16 * x20
    del x16
    x340 = x52 * x52
    x341 = x340 * x52
    del x340
    x343 = x339[:, :, :, None] * k
    x344 = do[:, :, None] * x53[:, :, :, None]
    del x53
    x351 = torch.add(S, x343.mT @ x349, alpha=2)
    del x343
    x353 = (do[..., None, :] @ x351.mT).squeeze(-2)
    del x351
    x355 = q * x353
    x356 = x355.sum(2)
    del x355
    x358 = x339[:, :, :, None] * x348
    del x339
    x403 = x341 * x356
    del x341, x356
    x405 = tiles.addcmul_(x52[:, :, None] * x353, x403[:, :, None], q, -1)
    del x353, x403, x52
    x345_rows = scan.Rows(steps, H, True)
    x359_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (x344_c, k_c, x358_c, x256_c) in scan.each(steps, H, (x344, k, x358.mT, x256.mT), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x345 = torch.add(2 * dS, x344_c, alpha=2)
        x346 = torch.bmm(k_c, x345)
        x359 = torch.bmm(x358_c, x346, out=x359_rows.room(n))
        x395 = scan.addmm(scan.scale(dS, 1, own) + x344_c, x256_c, x359, -1)
        x345_rows.put(x345)
        x359_rows.put(x359)
        dS = x395
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x345 = x345_rows.joined()
    x359 = x359_rows.joined()
    del x345_rows
    del x359_rows
    del x256, x344, x358
    x357 = x349 @ x345.mT
    del x345
    x362 = x359 @ x349.mT
    x363 = x362.tril(-1)
    del x362
    x365 = x38 * x363
    del x38
    x366 = x338[:, :, None] * x365
    x367 = x366.sum(3)
    del x366
    x368 = x20[:, :, :, None] * x365
    del x365
    x369 = x368.sum(2)
    del x368
    x370 = x338[:, :, None] * x363
    del x338
    x371 = x370 @ k
    del x370
    x372 = x20[:, :, :, None] * x363
    del x20, x363
    x373 = x372.mT @ k
    del x372
    x375 = x26 * x359
    del x26
    x376 = x375.sum(3)
    del x375
    x378 = tiles.addcmul_(-x376, x6, x369, -2)
    del x376
    x381 = x359 @ S.mT
    x384 = k * x357
    x385 = x384.sum(3)
    del x384
    x390 = tiles.addcmul_(-2 * x367, x6, x385)
    del x367, x6
    x397 = tiles.addcmul_(x385 * x337, x369, x337, -2)
    del x337, x369, x385
    x400 = tiles.addcmul_(x378 * -1 * x336, x390, x336, -1)
    del x336, x378, x390
    x402 = tiles.addcmul_(x334[:, :, :, None] * x357, x400[:, :, :, None], k)
    x402 = tiles.addcmul_(x402, x334[:, :, :, None], x373, -2)
    x402 = tiles.addcmul_(x402, x11[:, :, :, None], x371, -2)
    x402 = tiles.addcmul_(x402, x11[:, :, :, None], x381, -1)
    del x11, x334, x357, x371, x373, x381, x400
    return (x405, x402, x359, x397), (dS_end,)
