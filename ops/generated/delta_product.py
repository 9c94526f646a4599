"""delta_product: generated from its spec by rnnc; do not edit.

S[t] = S[t-1]
for i in n:
    S[t] <- S[t] + beta[i] * u @ (v[i] - S[t].T @ u).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  beta = 2 * sigmoid(b)
  u = unit(k[i])

In a chunk of C tokens with the incoming state S_in:
  w = beta[i] * u,  f = -u
  q_ = K**-0.5 * unit(q)
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
SPEC_HASH = "3c791712adc1d44586103fd21e4716efefd103d6077336165e777ffd4254a453"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("b", ("n",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    n_ = k.shape[3]
    K = q.shape[3]
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
    x51 = (K) ** -0.5
    x52 = q * q
    x53 = x52.sum(3)
    del x52
    x54 = x53 + 1e-06
    del x53
    x55 = torch.rsqrt(x54)
    del x54
    x60 = q @ x16.mT
    x446 = x18 * x20
    x447 = x24 * x446
    del x446
    x448 = x18 * x20
    del x18, x20
    x449 = x24 * x448
    del x448
    x456 = x55 * x51
    del x55
    x459 = x447[:, :, :, None] * x16
    del x447
    x462 = tiles.product(x43, (x24 * -2)[:, :, :, None], x449[:, :, None])
    del x43
    x463 = tiles.product(x60, (x449 * 2)[:, :, None], x456[:, :, :, None])
    del x449, x60
    x464 = tiles.mask_tokens(x463)
    del x463
    x465 = tiles.inverse(x462)
    del x462
    x542 = x24[:, :, :, None] * x16
    del x16, x24
    x546 = x456[:, :, :, None] * q
    del x456
    S_rows = scan.Rows(steps, H)
    x551_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x26_c,
        x542_c,
        x465_c,
        x546_c,
        x464_c,
        x459_c,
    ) in scan.each(
        steps,
        H,
        (
            x26,
            x542,
            x465,
            x546,
            x464,
            x459.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x544 = torch.baddbmm(x26_c, x542_c, S, alpha=-1)
        x548 = torch.bmm(x465_c, x544)
        x551 = torch.bmm(x546_c, S, out=x551_rows.room(n))
        x551 = scan.addmm(x551, x464_c, x548)
        x553 = scan.addmm(scan.scale(S, 1, own), x459_c, x548, 2)
        x551_rows.put(x551)
        S = x553
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x551 = x551_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x551_rows
    del x26, x459, x464, x542, x546
    return (x551,), (S_end,), (S, x465) if keep else None


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
    x446 = x18 * x20
    x447 = x24 * x446
    del x446
    x448 = x18 * x20
    del x18, x20
    x449 = x24 * x448
    del x448
    x459 = x447[:, :, :, None] * x16
    del x447
    x462 = tiles.product(x43, (x24 * -2)[:, :, :, None], x449[:, :, None])
    del x43, x449
    x465 = tiles.inverse(x462)
    del x462
    x542 = x24[:, :, :, None] * x16
    del x16, x24
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x26_c, x542_c, x465_c, x459_c) in scan.each(steps, H, (x26, x542, x465, x459.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x544 = torch.baddbmm(x26_c, x542_c, S, alpha=-1)
        x548 = torch.bmm(x465_c, x544)
        x553 = scan.addmm(scan.scale(S, 1, own), x459_c, x548, 2)
        S = x553
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x26, x459, x542
    return (), (S_end,), (S, x465) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x465) = kept
    (do,) = douts
    n_ = k.shape[3]
    K = q.shape[3]
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
    x30 = x16 @ S
    x33 = torch.addcmul(x26, x24[:, :, :, None], x30, value=-1)
    del x26
    x43 = x16 @ x16.mT
    x51 = (K) ** -0.5
    x52 = q * q
    x53 = x52.sum(3)
    del x52
    x54 = x53 + 1e-06
    del x53
    x55 = torch.rsqrt(x54)
    del x54
    x60 = q @ x16.mT
    x130 = do @ S.mT
    x133 = x55[:, :, :, None] * do
    x214 = -x20 + 1
    x355 = x24[:, :, :, None] * x16
    x446 = x18 * x20
    x447 = x24 * x446
    x448 = x18 * x20
    x449 = x24 * x448
    del x448
    x450 = x18 * x24
    del x18
    x451 = x24 * x24
    x452 = x24 * x451
    del x451
    x453 = x55 * x55
    x454 = x453 * x55
    del x453
    x456 = x55 * x51
    x463 = tiles.product(x60, (x449 * 2)[:, :, None], x456[:, :, :, None])
    x464 = tiles.mask_tokens(x463)
    del x463
    x466 = x465 @ x33
    del x33
    x472 = x464.mT @ do
    del x464
    x478 = do @ x466.mT
    x479 = tiles.mask_tokens(x478)
    del x478
    x480 = x60 * x479
    del x60
    x481 = x55[:, :, :, None] * x480
    x482 = x481.sum(2)
    del x481
    x484 = x449[:, :, None] * x480
    del x480
    x485 = x484.sum(3)
    del x484
    x486 = x449[:, :, None] * x479
    x487 = x486 @ x16
    del x486
    x488 = x55[:, :, :, None] * x479
    del x479, x55
    x489 = x488.mT @ q
    del x488
    x490 = x485 * x51
    del x485
    x506 = x482 * x51
    del x482
    x507 = x450 * x506
    x513 = x446 * x506
    del x506
    x517 = (x447 * x51)[:, :, :, None] * x489
    del x489
    x554 = q * x130
    x555 = x554.sum(3)
    del x554
    x556 = x555 * x51
    del x555
    x557 = torch.add(x556, x490, alpha=2)
    del x490, x556
    x558 = x454 * x557
    del x454, x557
    x560 = tiles.addcmul_(x456[:, :, :, None] * x130, x456[:, :, :, None], x487, 2)
    x560 = tiles.addcmul_(x560, x558[:, :, :, None], q, -1)
    del x130, x456, x487, x558
    x561 = x447[:, :, :, None] * x16
    x475_rows = scan.Rows(steps, H, True)
    x564_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x561_c,
        x472_c,
        x465_c,
        x466_c,
        q_c,
        x133_c,
        x355_c,
    ) in scan.each(
        steps,
        H,
        (
            x561,
            x472,
            x465.mT,
            x466,
            q.mT,
            x133,
            x355.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x563 = torch.baddbmm(x472_c, x561_c, dS, alpha=2)
        x564 = torch.bmm(x465_c, x563, out=x564_rows.room(n))
        x475 = torch.bmm(x466_c, dS.mT, out=x475_rows.room(n))
        x601 = scan.addmm(scan.scale(dS, 1, own), q_c, x133_c, x51)
        x601 = scan.addmm(x601, x355_c, x564, -1)
        x475_rows.put(x475)
        x564_rows.put(x564)
        dS = x601
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x475 = x475_rows.joined()
    x564 = x564_rows.joined()
    del x475_rows
    del x564_rows
    del x133, x355, x472, x561
    x476 = x16 * x475
    x477 = x476.sum(3)
    del x476
    x526 = tiles.product(x214, x477, x447)
    x566 = x564 @ x466.mT
    del x466
    x567 = x566.tril(-1)
    del x566
    x568 = x43 * x567
    del x43
    x569 = x449[:, :, None] * x568
    x570 = x569.sum(3)
    del x569
    x571 = x24[:, :, :, None] * x568
    del x568
    x572 = x571.sum(2)
    del x571
    x574 = x449[:, :, None] * x567
    del x449
    x575 = x574 @ x16
    del x574
    x576 = x24[:, :, :, None] * x567
    del x567
    x577 = x576.mT @ x16
    del x576
    x579 = tiles.addcmul_(2 * x507, x572, x450, -2)
    del x450, x507
    x580 = tiles.product(x20, x214, x579)
    del x20, x214, x579
    x581 = x30 * x564
    del x30
    x582 = x581.sum(3)
    del x581
    x584 = tiles.addcmul_(torch.add(-x582, x513, alpha=2), x572, x446, -2)
    del x513, x572, x582
    x587 = x564 @ S.mT
    x589 = x564.unflatten(2, (-1, n_))
    del x564
    x590 = tiles.addcmul_(-2 * x570, x477, x446, 2)
    del x446, x477, x570
    x592 = torch.add(x580, x526, alpha=2)
    del x526, x580
    x593 = x592.unflatten(2, (-1, n_))
    del x592
    x597 = tiles.addcmul_(x590 * -1 * x452, x584, x452, -1)
    del x452, x584, x590
    x599 = tiles.addcmul_(2 * x517, x597[:, :, :, None], x16)
    x599 = tiles.addcmul_(x599, x447[:, :, :, None], x577, -2)
    x599 = tiles.addcmul_(x599, x447[:, :, :, None], x475, 2)
    x599 = tiles.addcmul_(x599, x24[:, :, :, None], x575, -2)
    x599 = tiles.addcmul_(x599, x24[:, :, :, None], x587, -1)
    del x16, x24, x447, x475, x517, x575, x577, x587, x597
    x600 = x599.unflatten(2, (-1, n_))
    del x599
    return (x560, x600, x589, x593), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    K = q.shape[2]
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
    x50 = (K) ** -0.5
    x51 = q * q
    x52 = x51.sum(2)
    del x51
    x53 = x52 + 1e-06
    del x52
    x54 = torch.rsqrt(x53)
    del x53
    x350 = x16 * x20
    x351 = x16 * x20
    del x16
    x352 = x54 * x50
    del x54
    x356 = x352[:, :, None] * q
    del x352
    x357 = x351[:, :, :, None] * k
    del x351
    x361 = tiles.product(x38, (x20 * -2)[:, :, :, None], x350[:, :, None])
    del x350, x38
    x362 = tiles.inverse(x361)
    del x361
    x421 = x20[:, :, :, None] * k
    del x20
    S_rows = scan.Rows(steps, H)
    x428_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x421_c,
        x362_c,
        x357_c,
        x356_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x421,
            x362,
            x357.mT,
            x356,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x423 = torch.baddbmm(v_c, x421_c, S, alpha=-1)
        x425 = torch.bmm(x362_c, x423)
        x427 = scan.addmm(scan.scale(S, 1, own), x357_c, x425, 2)
        x428 = (x356_c[..., None, :] @ x427).squeeze(-2)
        x428_rows.put(x428)
        S = x427
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x428 = x428_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x428_rows
    del x356, x357, x421
    return (x428,), (S_end,), (S, x362) if keep else None


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
    x350 = x16 * x20
    x351 = x16 * x20
    del x16
    x357 = x351[:, :, :, None] * k
    del x351
    x361 = tiles.product(x38, (x20 * -2)[:, :, :, None], x350[:, :, None])
    del x350, x38
    x362 = tiles.inverse(x361)
    del x361
    x421 = x20[:, :, :, None] * k
    del x20
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (v_c, x421_c, x362_c, x357_c) in scan.each(steps, H, (v, x421, x362, x357.mT)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x423 = torch.baddbmm(v_c, x421_c, S, alpha=-1)
        x425 = torch.bmm(x362_c, x423)
        x427 = scan.addmm(scan.scale(S, 1, own), x357_c, x425, 2)
        S = x427
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x357, x421
    return (), (S_end,), (S, x362) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, x362) = kept
    (do,) = douts
    K = q.shape[2]
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
    x29 = torch.addcmul(v, x20[:, :, :, None], x26, value=-1)
    x38 = k @ k.mT
    x50 = (K) ** -0.5
    x51 = q * q
    x52 = x51.sum(2)
    del x51
    x53 = x52 + 1e-06
    del x52
    x54 = torch.rsqrt(x53)
    del x53
    x149 = -x6 + 1
    x268 = x20[:, :, :, None] * k
    x346 = x6 * x11
    x347 = x11 * x11
    x348 = x11 * x347
    del x347
    x349 = x149 * x346
    del x149
    x350 = x16 * x20
    x351 = x16 * x20
    del x16
    x352 = x54 * x50
    x353 = x54 * x54
    del x54
    x356 = x352[:, :, None] * q
    x357 = x351[:, :, :, None] * k
    x358 = do[:, :, None] * x356[:, :, :, None]
    del x356
    x363 = x362 @ x29
    del x29
    x365 = torch.add(S, x357.mT @ x363, alpha=2)
    del x357
    x367 = (do[..., None, :] @ x365.mT).squeeze(-2)
    del x365
    x369 = q * x367
    x370 = x369.sum(2)
    del x369
    x372 = x351[:, :, :, None] * x362
    del x351
    x417 = x353 * x370
    del x353, x370
    x418 = x417 * x352
    del x417
    x420 = tiles.addcmul_(x352[:, :, None] * x367, x418[:, :, None], q, -1)
    del x352, x367, x418
    x359_rows = scan.Rows(steps, H, True)
    x373_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (x358_c, k_c, x372_c, x268_c) in scan.each(steps, H, (x358, k, x372.mT, x268.mT), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x359 = torch.add(2 * dS, x358_c, alpha=2)
        x360 = torch.bmm(k_c, x359)
        x373 = torch.bmm(x372_c, x360, out=x373_rows.room(n))
        x409 = scan.addmm(scan.scale(dS, 1, own) + x358_c, x268_c, x373, -1)
        x359_rows.put(x359)
        x373_rows.put(x373)
        dS = x409
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x359 = x359_rows.joined()
    x373 = x373_rows.joined()
    del x359_rows
    del x373_rows
    del x268, x358, x372
    x371 = x363 @ x359.mT
    del x359
    x376 = x373 @ x363.mT
    del x363
    x377 = x376.tril(-1)
    del x376
    x379 = x38 * x377
    del x38
    x380 = x350[:, :, None] * x379
    x381 = x380.sum(3)
    del x380
    x382 = x20[:, :, :, None] * x379
    del x379
    x383 = x382.sum(2)
    del x382
    x384 = x350[:, :, None] * x377
    del x350
    x385 = x384 @ k
    del x384
    x386 = x20[:, :, :, None] * x377
    del x20, x377
    x387 = x386.mT @ k
    del x386
    x389 = x26 * x373
    del x26
    x390 = x389.sum(3)
    del x389
    x392 = tiles.addcmul_(-x390, x6, x383, -2)
    del x390
    x395 = x373 @ S.mT
    x398 = k * x371
    x399 = x398.sum(3)
    del x398
    x404 = tiles.addcmul_(-2 * x381, x6, x399)
    del x381, x6
    x411 = tiles.addcmul_(x399 * x349, x383, x349, -2)
    del x349, x383, x399
    x414 = tiles.addcmul_(x392 * -1 * x348, x404, x348, -1)
    del x348, x392, x404
    x416 = tiles.addcmul_(x346[:, :, :, None] * x371, x414[:, :, :, None], k)
    x416 = tiles.addcmul_(x416, x346[:, :, :, None], x387, -2)
    x416 = tiles.addcmul_(x416, x11[:, :, :, None], x385, -2)
    x416 = tiles.addcmul_(x416, x11[:, :, :, None], x395, -1)
    del x11, x346, x371, x385, x387, x395, x414
    return (x420, x416, x373, x411), (dS_end,)
