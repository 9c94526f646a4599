"""gated_delta_net2: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + u @ (write * v - S[t-1].T @ (alpha * erase * u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  erase = sigmoid(b)
  write = sigmoid(w)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w_ = u,  v_ = write * v,  f = D f',  f' = -erase * u
  q_ = K**-0.5 * unit(q)
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f'[i]^T (G[i]/G[j]) w_[j],  j < i
  U = (I - P)^-1 (v_ + (f' * G) S_in)
  A[i,j] = q_[i]^T (G[i]/G[j]) w_[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w_ * G[C]/G)^T U
"""

import torch

from rnnc.ops import tiles

NAME = "gated_delta_net2"
SPEC_HASH = "5d344734104feb2d9e1c2e6a0332131731d6b7a2c31be3db6f2a0d57f5111e19"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)), ("w", ("V",)))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[3]
    x11 = torch.exp(A_log)
    x12 = a_ + dt_bias[:, :, None]
    x13 = tiles.softplus(x12)
    del x12
    x14 = (x11 * -1)[:, :, None, None] * x13
    del x11, x13
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x24 = torch.sigmoid(w)
    x25 = v * x24
    del x24
    x26 = torch.sigmoid(b_)
    x52 = (K) ** -0.5
    x53 = q * q
    x54 = x53.sum(3)
    del x53
    x55 = x54 + 1e-06
    del x54
    x56 = torch.rsqrt(x55)
    del x55
    x75 = x14 * tiles.LOG2E
    del x14
    x76 = torch.where(valid[:, :, :, None] > 0, x75, 0)
    del x75
    x77 = tiles.prefix_sum(x76, 2)
    x78 = torch.exp2(x77)
    del x77
    x86 = q * x78
    x93 = tiles.suffix_sum(x76, 2, exclusive=True)
    x94 = torch.exp2(x93)
    del x93
    x97 = x76.sum(2)
    x98 = torch.exp2(x97)
    del x97
    x101 = k * x94
    del x94
    x484 = k * x26
    del x26
    x486 = x78 * x484
    del x78
    x489 = valid * x21
    x496 = q * x52
    x499 = x21[:, :, :, None] * x484
    del x484
    x501 = x56 * x52
    x502 = x489[:, :, :, None] * k
    x503 = x499 * -1
    del x499
    x504 = x56[:, :, :, None] * x496
    del x496, x56
    x507 = x489[:, :, :, None] * x101
    del x101, x489
    f1 = tiles.decay_factors(x76)
    x512 = tiles.decay_dot(x503, x502, f1, strict=True)
    del x503
    x516 = tiles.decay_dot(x504, x502, f1)
    del f1, x502, x504, x76
    x517 = tiles.inverse(x512)
    del x512
    S_all, x521_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x86_c = x86[a:b]
        x486_c = x486[a:b]
        x25_c = x25[a:b]
        x21_c = x21[a:b]
        x517_c = x517[a:b]
        x501_c = x501[a:b]
        x516_c = x516[a:b]
        x98_c = x98[a:b]
        x507_c = x507[a:b]
        x87 = x86_c @ S
        x505 = x486_c @ S
        x514 = torch.addcmul(x25_c, x21_c[:, :, :, None], x505, value=-1)
        x518 = x517_c @ x514
        x521 = tiles.addmm_(x501_c[:, :, :, None] * x87, x516_c, x518)
        x523 = tiles.addmm_(x98_c[:, :, :, None] * S, x507_c.mT, x518)
        x521_all.append(x521)
        S = x523
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x521 = torch.cat(x521_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x521_all
    del x21, x25, x486, x501, x507, x86, x98
    return (x521,), (S_end,), (S, x516, x517) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[3]
    x11 = torch.exp(A_log)
    x12 = a_ + dt_bias[:, :, None]
    x13 = tiles.softplus(x12)
    del x12
    x14 = (x11 * -1)[:, :, None, None] * x13
    del x11, x13
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x24 = torch.sigmoid(w)
    x25 = v * x24
    del x24
    x26 = torch.sigmoid(b_)
    x52 = (K) ** -0.5
    x53 = q * q
    x54 = x53.sum(3)
    del x53
    x55 = x54 + 1e-06
    del x54
    x56 = torch.rsqrt(x55)
    del x55
    x75 = x14 * tiles.LOG2E
    del x14
    x76 = torch.where(valid[:, :, :, None] > 0, x75, 0)
    del x75
    x77 = tiles.prefix_sum(x76, 2)
    x78 = torch.exp2(x77)
    del x77
    x93 = tiles.suffix_sum(x76, 2, exclusive=True)
    x94 = torch.exp2(x93)
    del x93
    x97 = x76.sum(2)
    x98 = torch.exp2(x97)
    del x97
    x101 = k * x94
    del x94
    x484 = k * x26
    del x26
    x486 = x78 * x484
    del x78
    x489 = valid * x21
    x496 = q * x52
    x499 = x21[:, :, :, None] * x484
    del x484
    x502 = x489[:, :, :, None] * k
    x503 = x499 * -1
    del x499
    x504 = x56[:, :, :, None] * x496
    del x496, x56
    x507 = x489[:, :, :, None] * x101
    del x101, x489
    f1 = tiles.decay_factors(x76)
    x512 = tiles.decay_dot(x503, x502, f1, strict=True)
    del x503
    x516 = tiles.decay_dot(x504, x502, f1)
    del f1, x502, x504, x76
    x517 = tiles.inverse(x512)
    del x512
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x486_c = x486[a:b]
        x25_c = x25[a:b]
        x21_c = x21[a:b]
        x517_c = x517[a:b]
        x98_c = x98[a:b]
        x507_c = x507[a:b]
        x505 = x486_c @ S
        x514 = torch.addcmul(x25_c, x21_c[:, :, :, None], x505, value=-1)
        x518 = x517_c @ x514
        x523 = tiles.addmm_(x98_c[:, :, :, None] * S, x507_c.mT, x518)
        S = x523
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x21, x25, x486, x507, x98
    return (), (S_end,), (S, x516, x517) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x516, x517) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    x11 = torch.exp(A_log)
    x12 = a_ + dt_bias[:, :, None]
    x13 = tiles.softplus(x12)
    x14 = (x11 * -1)[:, :, None, None] * x13
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x22 = x21[:, :, :, None] * k
    x24 = torch.sigmoid(w)
    x25 = v * x24
    x26 = torch.sigmoid(b_)
    x52 = (K) ** -0.5
    x53 = q * q
    x54 = x53.sum(3)
    del x53
    x55 = x54 + 1e-06
    del x54
    x56 = torch.rsqrt(x55)
    del x55
    x75 = x14 * tiles.LOG2E
    del x14
    x76 = torch.where(valid[:, :, :, None] > 0, x75, 0)
    del x75
    x77 = tiles.prefix_sum(x76, 2)
    x78 = torch.exp2(x77)
    del x77
    x86 = q * x78
    x87 = x86 @ S
    x93 = tiles.suffix_sum(x76, 2, exclusive=True)
    x94 = torch.exp2(x93)
    del x93
    x97 = x76.sum(2)
    x98 = torch.exp2(x97)
    del x97
    x101 = k * x94
    x122 = tiles.LN2
    x142 = x87 * do
    del x87
    x143 = x142.sum(3)
    del x142
    x144 = x143 * x52
    del x143
    x146 = do @ S.mT
    x149 = x56[:, :, :, None] * do
    x150 = x86.mT @ x149
    del x149, x86
    x151 = x150 * x52
    del x150
    x189 = tiles.LOG2E
    x222 = -x24 + 1
    x268 = -x26 + 1
    x290 = torch.sigmoid(x12)
    del x12
    x484 = k * x26
    x486 = x78 * x484
    x489 = valid * x21
    x490 = x21 * x21
    x491 = x21 * x490
    del x490
    x492 = x11 * x189
    del x11
    x493 = x56 * x56
    x494 = x493 * x56
    del x493
    x496 = q * x52
    x498 = x21[:, :, :, None] * x26
    x499 = x21[:, :, :, None] * x484
    x500 = x56[:, :, :, None] * x146
    del x146
    x501 = x56 * x52
    x502 = x489[:, :, :, None] * k
    x503 = x499 * -1
    x504 = x56[:, :, :, None] * x496
    del x56
    x505 = x486 @ S
    x509 = x78 * x500 * x52
    x510 = x496 * x500
    del x496, x500
    x514 = torch.addcmul(x25, x21[:, :, :, None], x505, value=-1)
    x518 = x517 @ x514
    del x514
    x524 = x21[:, :, :, None] * x486
    del x21, x486
    x525 = x516.mT @ do
    x535 = do @ x518.mT
    f1 = tiles.decay_factors(x76)
    x536, x537, x538 = tiles.decay_dot_grads(x535, x504, x502, f1)
    del x504, x535, x76
    x554 = q * x536
    x555 = x554.sum(3)
    del x554
    x556 = x555 * x52
    del x555
    x557 = x144 + x556
    del x144, x556
    x595 = x494 * x557
    del x494, x557
    x597 = torch.addcmul(x509, x501[:, :, :, None], x536)
    x597 = tiles.addcmul_(x597, x595[:, :, :, None], q, -1)
    del x501, x509, x536, x595
    dS_all, x539_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        x101_c = x101[a:b]
        x525_c = x525[a:b]
        x489_c = x489[a:b]
        x517_c = x517[a:b]
        x151_c = x151[a:b]
        x98_c = x98[a:b]
        x524_c = x524[a:b]
        x109 = x101_c @ dS
        x527 = torch.addcmul(x525_c, x489_c[:, :, :, None], x109)
        x539 = x517_c.mT @ x527
        x588 = torch.addcmul(x151_c, x98_c[:, :, :, None], dS)
        x588 = tiles.addmm_(x588, x524_c.mT, x539, -1)
        x539_all.append(x539)
        dS = x588
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x539 = torch.cat(x539_all[::-1])
    del dS_all
    del x539_all
    del x151, x524, x525
    x120 = S * dS
    x121 = x120.sum(3)
    del x120
    x124 = x98 * x121 * x122
    del x121, x98
    x125 = x124[:, :, None].expand(-1, -1, C, -1)
    del x124
    x528 = x518 @ dS.mT
    del dS
    x529 = tiles.product(x94, x528, x489[:, :, :, None])
    del x94
    x530 = x101 * x528
    del x101, x528
    x531 = x530.sum(3)
    x533 = (x489 * x122)[:, :, :, None] * x530
    del x530
    x534 = tiles.prefix_sum(x533, 2, exclusive=True)
    del x533
    x541 = x539 @ x518.mT
    del x518
    x542 = x541.tril(-1)
    del x541
    x543, x544, x545 = tiles.decay_dot_grads(x542, x503, x502, f1, strict=True)
    del f1, x502, x503, x542
    x546 = x539 @ S.mT
    x549 = torch.addcmul(x510, x546, x499, value=-1)
    del x499, x510
    x550 = x78 * x549 * x122
    del x549
    x551 = tiles.suffix_sum(x550, 2)
    del x550
    x552 = x125 + x534 + x538 + x545 + x551
    del x125, x534, x538, x545, x551
    x558 = tiles.product(x25, x222, x539)
    del x222, x25
    x559 = x24 * x539
    del x24
    x562 = x537 + x544
    del x537, x544
    x563 = k * x562
    x564 = x563.sum(3)
    del x563
    x566 = x505 * x539
    del x505, x539
    x567 = x566.sum(3)
    del x566
    x569 = tiles.addcmul_(-x567, valid, x564)
    del x564, x567
    x570 = x543 * x484
    del x484
    x571 = x570.sum(3)
    del x570
    x572 = x78 * x546
    del x546, x78
    x575 = tiles.addcmul_(x572 * -1 * x22, x543, x22, -1)
    del x22
    x576 = tiles.product(x26, x268, x575)
    del x26, x268, x575
    x577 = tiles.addcmul_(-x571, valid, x531)
    del x531, x571
    x579 = tiles.product(x13, x552, valid[:, :, :, None])
    del x13
    x580 = x579.sum(2)
    del x579
    x581 = x580.sum(2)
    del x580
    x582 = x290 * x552
    del x290, x552
    x583 = valid[:, :, :, None] * x582
    del x582
    x584 = (x492 * -1)[:, :, None, None] * x583
    x585 = x583.sum(2)
    del x583
    x586 = (x492 * -1)[:, :, None] * x585
    del x585
    x587 = x581 * x492 * -1
    del x492, x581
    x592 = tiles.addcmul_(x577 * -1 * x491, x569, x491, -1)
    del x491, x569, x577
    x594 = torch.addcmul(x529, x489[:, :, :, None], x562)
    x594 = tiles.addcmul_(x594, x592[:, :, :, None], k)
    x594 = tiles.addcmul_(tiles.addcmul_(x594, x572, x498, -1), x543, x498, -1)
    del x489, x498, x529, x543, x562, x572, x592
    return (x597, x594, x559, x584, x576, x558, x587, x586), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[2]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
    del x10, x12
    x14 = torch.exp(x13)
    del x13
    x16 = torch.sigmoid(w)
    x17 = v * x16
    del x16
    x18 = torch.sigmoid(b_)
    x19 = k * k
    x20 = x19.sum(2)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x32 = (K) ** -0.5
    x33 = q * q
    x34 = x33.sum(2)
    del x33
    x35 = x34 + 1e-06
    del x34
    x36 = torch.rsqrt(x35)
    del x35
    x141 = k * x18
    del x18
    x142 = x14 * x141
    del x141
    x144 = x36 * x32
    del x36
    x146 = x144[:, :, None] * q
    del x144
    x148 = (x23 * -1)[:, :, None] * x142
    del x142
    S_all, x153_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x148_c = x148[a:b]
        x17_c = x17[a:b]
        k_c = k[a:b]
        x23_c = x23[a:b]
        x14_c = x14[a:b]
        x146_c = x146[a:b]
        x149 = (x148_c[..., None, :] @ S).squeeze(-2)
        x150 = x17_c + x149
        x151 = (x23_c[:, :, None] * k_c)[:, :, :, None] * x150[:, :, None]
        x152 = torch.addcmul(x151, x14_c[:, :, :, None], S)
        x153 = (x146_c[..., None, :] @ x152).squeeze(-2)
        x153_all.append(x153)
        S = x152
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x153 = torch.cat(x153_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x153_all
    del x14, x146, x148, x17, x23
    return (x153,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, w, A_log, dt_bias) = args
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
    del x10, x12
    x14 = torch.exp(x13)
    del x13
    x16 = torch.sigmoid(w)
    x17 = v * x16
    del x16
    x18 = torch.sigmoid(b_)
    x19 = k * k
    x20 = x19.sum(2)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x141 = k * x18
    del x18
    x142 = x14 * x141
    del x141
    x148 = (x23 * -1)[:, :, None] * x142
    del x142
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x148_c = x148[a:b]
        x17_c = x17[a:b]
        k_c = k[a:b]
        x23_c = x23[a:b]
        x14_c = x14[a:b]
        x149 = (x148_c[..., None, :] @ S).squeeze(-2)
        x150 = x17_c + x149
        x151 = (x23_c[:, :, None] * k_c)[:, :, :, None] * x150[:, :, None]
        x152 = torch.addcmul(x151, x14_c[:, :, :, None], S)
        S = x152
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x14, x148, x17, x23
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None] * x12
    x14 = torch.exp(x13)
    del x13
    x16 = torch.sigmoid(w)
    x17 = v * x16
    x18 = torch.sigmoid(b_)
    x19 = k * k
    x20 = x19.sum(2)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x32 = (K) ** -0.5
    x33 = q * q
    x34 = x33.sum(2)
    del x33
    x35 = x34 + 1e-06
    del x34
    x36 = torch.rsqrt(x35)
    del x35
    x109 = -x18 + 1
    x114 = -x16 + 1
    x129 = torch.sigmoid(x11)
    del x11
    x141 = k * x18
    x142 = x14 * x141
    x144 = x36 * x32
    x145 = x23 * x23
    x146 = x144[:, :, None] * q
    x148 = (x23 * -1)[:, :, None] * x142
    x149 = (x148[..., None, :] @ S).squeeze(-2)
    del x148
    x150 = x17 + x149
    del x149
    x151 = (x23[:, :, None] * k)[:, :, :, None] * x150[:, :, None]
    x152 = torch.addcmul(x151, x14[:, :, :, None], S)
    del x151
    x154 = (do[..., None, :] @ x152.mT).squeeze(-2)
    del x152
    x155 = do[:, :, None] * x146[:, :, :, None]
    del x146
    x156 = x144[:, :, None] * x154
    x157 = q * x154
    del x154
    x158 = x157.sum(2)
    del x157
    x159 = tiles.product(x36, x36, x158, x144, (-0.5))
    del x144, x158, x36
    x160 = x159[:, :, None] * q
    del x159
    x194 = torch.add(x156, x160, alpha=2)
    del x156, x160
    x161_all, x166_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x155_c = x155[a:b]
        k_c = k[a:b]
        x142_c = x142[a:b]
        x145_c = x145[a:b]
        x14_c = x14[a:b]
        x161 = dS + x155_c
        x165 = k_c[:, :, :, None] * x161
        x166 = x165.sum(2)
        x190 = (x145_c[:, :, None] * x166)[:, :, None] * x142_c[:, :, :, None]
        x191 = tiles.addcmul_(-x190, x14_c[:, :, :, None], x161)
        x161_all.append(x161)
        x166_all.append(x166)
        dS = x191
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x161 = torch.cat(x161_all[::-1])
    x166 = torch.cat(x166_all[::-1])
    del x161_all
    del x166_all
    del x155
    x162 = x150[:, :, None] * x161
    x163 = x162.sum(3)
    del x162
    x164 = x23[:, :, None] * x163
    del x163
    x167 = x150 * x166
    del x150
    x168 = x167.sum(2)
    del x167
    x169 = x23[:, :, None] * x166
    del x166
    x170 = (x169[..., None, :] @ S.mT).squeeze(-2)
    x171 = x170 * x142
    del x142
    x172 = x171.sum(2)
    x173 = x168 - x172
    del x168, x172
    x174 = tiles.product(x23, x173, x145, (-0.5))
    del x145, x173
    x175 = x174[:, :, None] * k
    del x174
    x176 = tiles.product(x109, x171, (x23 * -1)[:, :, None])
    del x109, x171
    x177 = x16 * x169
    del x16
    x178 = tiles.product(x17, x114, x169)
    del x114, x169, x17
    x180 = S * x161
    del x161
    x181 = x180.sum(3)
    del x180
    x182 = x23[:, :, None] * x170
    del x170, x23
    x184 = torch.addcmul(x181, x141, x182, value=-1)
    del x141, x181
    x185 = x14 * x184
    del x184
    x186 = x12 * x185
    del x12
    x187 = x186.sum(2)
    del x186
    x188 = tiles.product(x185, x129, (x10 * -1)[:, :, None])
    del x129, x185
    x189 = x10 * x187 * -1
    del x10, x187
    x192 = tiles.product(x14, x18, x182)
    del x14, x18, x182
    x193 = torch.add(x164, x175, alpha=2) - x192
    del x164, x175, x192
    return (x194, x193, x177, x188, x176, x178, x189, x188), (dS_end,)
