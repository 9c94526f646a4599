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

from rnnc.ops import scan, tiles

NAME = "gated_delta_net2"
SPEC_HASH = "5d344734104feb2d9e1c2e6a0332131731d6b7a2c31be3db6f2a0d57f5111e19"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)), ("w", ("V",)))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    x524 = x21[:, :, :, None] * x486
    del x21, x486
    x598 = x501[:, :, :, None] * x86
    del x501, x86
    S_rows = scan.Rows(steps, H)
    x603_rows = scan.Rows(steps, H)
    x606_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x25_c,
        x524_c,
        x517_c,
        x598_c,
        x516_c,
        x98_c,
        x507_c,
    ) in scan.each(
        steps,
        H,
        (
            x25,
            x524,
            x517,
            x598,
            x516,
            x98[:, :, :, None],
            x507.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x601 = torch.baddbmm(x25_c, x524_c, S, alpha=-1)
        x603 = torch.bmm(x517_c, x601, out=x603_rows.room(n))
        x606 = torch.bmm(x598_c, S, out=x606_rows.room(n))
        x606 = scan.addmm(x606, x516_c, x603)
        x608 = scan.addmm(scan.scale(S, x98_c, own), x507_c, x603)
        if keep:
            x603_rows.put(x603)
        x606_rows.put(x606)
        S = x608
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x606 = x606_rows.joined()
    if keep:
        S = S_rows.joined()
        x603 = x603_rows.joined()
    del S_rows
    del x603_rows
    del x606_rows
    del x25, x507, x524, x598, x98
    return (x606,), (S_end,), (S, x516, x517, x603) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    x524 = x21[:, :, :, None] * x486
    del x21, x486
    S_rows = scan.Rows(steps, H)
    x603_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x25_c,
        x524_c,
        x517_c,
        x98_c,
        x507_c,
    ) in scan.each(
        steps,
        H,
        (
            x25,
            x524,
            x517,
            x98[:, :, :, None],
            x507.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x601 = torch.baddbmm(x25_c, x524_c, S, alpha=-1)
        x603 = torch.bmm(x517_c, x601, out=x603_rows.room(n))
        x608 = scan.addmm(scan.scale(S, x98_c, own), x507_c, x603)
        if keep:
            x603_rows.put(x603)
        S = x608
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x603 = x603_rows.joined()
    del S_rows
    del x603_rows
    del x25, x507, x524, x98
    return (), (S_end,), (S, x516, x517, x603) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x516, x517, x518) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
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
    x93 = tiles.suffix_sum(x76, 2, exclusive=True)
    x94 = torch.exp2(x93)
    del x93
    x97 = x76.sum(2)
    x98 = torch.exp2(x97)
    del x97
    x101 = k * x94
    x122 = tiles.LN2
    x146 = do @ S.mT
    x149 = x56[:, :, :, None] * do
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
    x501 = x56 * x52
    x502 = x489[:, :, :, None] * k
    x503 = x499 * -1
    x504 = x56[:, :, :, None] * x496
    del x56
    x509 = x78 * x500 * x52
    x510 = x496 * x500
    del x496, x500
    x524 = x21[:, :, :, None] * x486
    del x21
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
    x609 = x86 * x146
    del x146
    x610 = x609.sum(3)
    del x609
    x611 = x610 * x52
    del x610
    x612 = x611 + x556
    del x556, x611
    x613 = x494 * x612
    del x494, x612
    x615 = torch.addcmul(x509, x501[:, :, :, None], x536)
    x615 = tiles.addcmul_(x615, x613[:, :, :, None], q, -1)
    del x501, x509, x536, x613
    x623 = x489[:, :, :, None] * x101
    x121_rows = scan.Rows(steps, H, True)
    x528_rows = scan.Rows(steps, H, True)
    x626_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x623_c,
        x525_c,
        x517_c,
        S_c,
        x518_c,
        x98_c,
        x86_c,
        x149_c,
        x524_c,
    ) in scan.each(
        steps,
        H,
        (
            x623,
            x525,
            x517.mT,
            S,
            x518,
            x98[:, :, :, None],
            x86.mT,
            x149,
            x524.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x625 = torch.baddbmm(x525_c, x623_c, dS)
        x626 = torch.bmm(x517_c, x625, out=x626_rows.room(n))
        x120 = S_c * dS
        x121 = x120.sum(2)
        x528 = torch.bmm(x518_c, dS.mT, out=x528_rows.room(n))
        x666 = scan.addmm(scan.scale(dS, x98_c, own), x86_c, x149_c, x52)
        x666 = scan.addmm(x666, x524_c, x626, -1)
        x121_rows.put(x121)
        x528_rows.put(x528)
        x626_rows.put(x626)
        dS = x666
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x121 = x121_rows.joined()
    x528 = x528_rows.joined()
    x626 = x626_rows.joined()
    del x121_rows
    del x528_rows
    del x626_rows
    del x149, x524, x525, x623, x86
    x124 = x98 * x121 * x122
    del x121, x98
    x125 = x124[:, :, None].expand(-1, -1, C, -1)
    del x124
    x529 = tiles.product(x94, x528, x489[:, :, :, None])
    del x94
    x530 = x101 * x528
    del x101, x528
    x531 = x530.sum(3)
    x533 = (x489 * x122)[:, :, :, None] * x530
    del x530
    x534 = tiles.prefix_sum(x533, 2, exclusive=True)
    del x533
    x628 = x626 @ x518.mT
    x629 = x628.tril(-1)
    del x628
    x630, x631, x632 = tiles.decay_dot_grads(x629, x503, x502, f1, strict=True)
    del f1, x502, x503, x629
    x633 = x626 @ S.mT
    x636 = torch.addcmul(x510, x633, x499, value=-1)
    del x499, x510
    x637 = x78 * x636 * x122
    del x636
    x638 = tiles.suffix_sum(x637, 2)
    del x637
    x639 = x125 + x534 + x538 + x632 + x638
    del x125, x534, x538, x632, x638
    x640 = tiles.product(x25, x222, x626)
    del x222, x25
    x641 = x24 * x626
    del x24, x626
    x643 = x537 + x631
    del x537, x631
    x644 = k * x643
    x645 = x644.sum(3)
    del x644
    x648 = x630 * x484
    del x484
    x649 = x648.sum(3)
    del x648
    x650 = x78 * x633
    del x78
    x653 = tiles.addcmul_(x650 * -1 * x22, x630, x22, -1)
    del x22
    x654 = tiles.product(x26, x268, x653)
    del x26, x268, x653
    x655 = tiles.addcmul_(-x649, valid, x531)
    del x531, x649
    x657 = tiles.product(x13, x639, valid[:, :, :, None])
    del x13
    x658 = x657.sum(2)
    del x657
    x659 = x658.sum(2)
    del x658
    x660 = x290 * x639
    del x290, x639
    x661 = valid[:, :, :, None] * x660
    del x660
    x662 = (x492 * -1)[:, :, None, None] * x661
    x663 = x661.sum(2)
    del x661
    x664 = (x492 * -1)[:, :, None] * x663
    del x663
    x665 = x659 * x492 * -1
    del x492, x659
    x669 = x486 * x633
    del x486, x633
    x670 = x669.sum(3)
    del x669
    x671 = tiles.addcmul_(-x670, valid, x645)
    del x645, x670
    x673 = tiles.addcmul_(x655 * -1 * x491, x671, x491, -1)
    del x491, x655, x671
    x675 = torch.addcmul(x529, x489[:, :, :, None], x643)
    x675 = tiles.addcmul_(x675, x673[:, :, :, None], k)
    x675 = tiles.addcmul_(tiles.addcmul_(x675, x650, x498, -1), x630, x498, -1)
    del x489, x498, x529, x630, x643, x650, x673
    return (x615, x675, x641, x662, x654, x640, x665, x664), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x195 = x23[:, :, None] * k
    del x23
    S_rows = scan.Rows(steps, H)
    x198_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x148_c,
        x17_c,
        x14_c,
        x195_c,
        x146_c,
    ) in scan.each(
        steps,
        H,
        (
            x148,
            x17,
            x14[:, :, :, None],
            x195[:, :, :, None],
            x146,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x149 = (x148_c[..., None, :] @ S).squeeze(-2)
        x150 = x17_c + x149
        x197 = tiles.addcmul_(scan.scale(S, x14_c, own), x195_c, x150[:, None])
        x198 = (x146_c[..., None, :] @ x197).squeeze(-2)
        x198_rows.put(x198)
        S = x197
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x198 = x198_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x198_rows
    del x14, x146, x148, x17, x195
    return (x198,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, w, A_log, dt_bias) = args
    H = h0[0].shape[1]
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
    x195 = x23[:, :, None] * k
    del x23
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x148_c,
        x17_c,
        x14_c,
        x195_c,
    ) in scan.each(
        steps,
        H,
        (
            x148,
            x17,
            x14[:, :, :, None],
            x195[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x149 = (x148_c[..., None, :] @ S).squeeze(-2)
        x150 = x17_c + x149
        x197 = tiles.addcmul_(scan.scale(S, x14_c, own), x195_c, x150[:, None])
        S = x197
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x14, x148, x17, x195
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, w, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x157 = q * x154
    x158 = x157.sum(2)
    del x157
    x159 = tiles.product(x36, x36, x158, x144, (-0.5))
    del x158, x36
    x194 = tiles.addcmul_(x144[:, :, None] * x154, x159[:, :, None], q, 2)
    del x144, x154, x159
    x199 = x145[:, :, None] * x142
    x161_rows = scan.Rows(steps, H, True)
    x166_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x155_c,
        k_c,
        x14_c,
        x199_c,
    ) in scan.each(
        steps,
        H,
        (
            x155,
            k,
            x14[:, :, :, None],
            x199[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x161 = dS + x155_c
        x165 = k_c[:, :, None] * x161
        x166 = x165.sum(1)
        x201 = tiles.addcmul_(x14_c * x161, x199_c, x166[:, None], -1)
        x161_rows.put(x161)
        x166_rows.put(x166)
        dS = x201
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x161 = x161_rows.joined()
    x166 = x166_rows.joined()
    del x161_rows
    del x166_rows
    del x155, x199
    x162 = x150[:, :, None] * x161
    x163 = x162.sum(3)
    del x162
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
    del x170
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
    x193 = tiles.addcmul_(-x192, x23[:, :, None], x163)
    x193 = tiles.addcmul_(x193, x174[:, :, None], k, 2)
    del x163, x174, x192, x23
    return (x194, x193, x177, x188, x176, x178, x189, x188), (dS_end,)
