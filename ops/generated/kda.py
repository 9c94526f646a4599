"""kda: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + beta * u @ (v - S[t-1].T @ (alpha * u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = beta * u,  f = D f',  f' = -u
  q_ = K**-0.5 * unit(q)
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f'[i]^T (G[i]/G[j]) w[j],  j < i
  U = (I - P)^-1 (v + (f' * G) S_in)
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T U
"""

import torch

from rnnc.ops import tiles

NAME = "kda"
SPEC_HASH = "ab5064437e049285a212ca2d9d4258b005a5d8133a1410ae24430d4acce14040"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[3]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None, None] * x12
    del x10, x12
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x22 = x21[:, :, :, None] * k
    x49 = (K) ** -0.5
    x50 = q * q
    x51 = x50.sum(3)
    del x50
    x52 = x51 + 1e-06
    del x51
    x53 = torch.rsqrt(x52)
    del x52
    x72 = x13 * tiles.LOG2E
    del x13
    x73 = torch.where(valid[:, :, :, None] > 0, x72, 0)
    del x72
    x74 = tiles.prefix_sum(x73, 2)
    x75 = torch.exp2(x74)
    del x74
    x76 = k * x75
    x83 = q * x75
    del x75
    x90 = tiles.suffix_sum(x73, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x94 = x73.sum(2)
    x95 = torch.exp2(x94)
    del x94
    x98 = k * x91
    del x91
    x471 = valid * x16
    del x16
    x472 = x21 * x471
    del x471
    x480 = q * x49
    x483 = x53 * x49
    x484 = x472[:, :, :, None] * k
    x485 = x22 * -1
    del x22
    x486 = x53[:, :, :, None] * x480
    del x480, x53
    x488 = x472[:, :, :, None] * x98
    del x472, x98
    f1 = tiles.decay_factors(x73)
    x493 = tiles.decay_dot(x485, x484, f1, strict=True)
    del x485
    x494 = tiles.decay_dot(x486, x484, f1)
    del f1, x484, x486, x73
    x495 = tiles.inverse(x493)
    del x493
    S_all, x499_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x76_c = x76[a:b]
        x83_c = x83[a:b]
        v_c = v[a:b]
        x21_c = x21[a:b]
        x495_c = x495[a:b]
        x483_c = x483[a:b]
        x494_c = x494[a:b]
        x95_c = x95[a:b]
        x488_c = x488[a:b]
        x77 = x76_c @ S
        x84 = x83_c @ S
        x324 = torch.addcmul(v_c, x21_c[:, :, :, None], x77, value=-1)
        x496 = x495_c @ x324
        x499 = tiles.addmm_(x483_c[:, :, :, None] * x84, x494_c, x496)
        x501 = tiles.addmm_(x95_c[:, :, :, None] * S, x488_c.mT, x496)
        x499_all.append(x499)
        S = x501
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x499 = torch.cat(x499_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x499_all
    del x21, x483, x488, x76, x83, x95
    return (x499,), (S_end,), (S, x494, x495) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[3]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None, None] * x12
    del x10, x12
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x22 = x21[:, :, :, None] * k
    x49 = (K) ** -0.5
    x50 = q * q
    x51 = x50.sum(3)
    del x50
    x52 = x51 + 1e-06
    del x51
    x53 = torch.rsqrt(x52)
    del x52
    x72 = x13 * tiles.LOG2E
    del x13
    x73 = torch.where(valid[:, :, :, None] > 0, x72, 0)
    del x72
    x74 = tiles.prefix_sum(x73, 2)
    x75 = torch.exp2(x74)
    del x74
    x76 = k * x75
    del x75
    x90 = tiles.suffix_sum(x73, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x94 = x73.sum(2)
    x95 = torch.exp2(x94)
    del x94
    x98 = k * x91
    del x91
    x471 = valid * x16
    del x16
    x472 = x21 * x471
    del x471
    x480 = q * x49
    x484 = x472[:, :, :, None] * k
    x485 = x22 * -1
    del x22
    x486 = x53[:, :, :, None] * x480
    del x480, x53
    x488 = x472[:, :, :, None] * x98
    del x472, x98
    f1 = tiles.decay_factors(x73)
    x493 = tiles.decay_dot(x485, x484, f1, strict=True)
    del x485
    x494 = tiles.decay_dot(x486, x484, f1)
    del f1, x484, x486, x73
    x495 = tiles.inverse(x493)
    del x493
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x76_c = x76[a:b]
        v_c = v[a:b]
        x21_c = x21[a:b]
        x495_c = x495[a:b]
        x95_c = x95[a:b]
        x488_c = x488[a:b]
        x77 = x76_c @ S
        x324 = torch.addcmul(v_c, x21_c[:, :, :, None], x77, value=-1)
        x496 = x495_c @ x324
        x501 = tiles.addmm_(x95_c[:, :, :, None] * S, x488_c.mT, x496)
        S = x501
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x21, x488, x76, x95
    return (), (S_end,), (S, x494, x495) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x494, x495) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None, None] * x12
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x22 = x21[:, :, :, None] * k
    x49 = (K) ** -0.5
    x50 = q * q
    x51 = x50.sum(3)
    del x50
    x52 = x51 + 1e-06
    del x51
    x53 = torch.rsqrt(x52)
    del x52
    x72 = x13 * tiles.LOG2E
    del x13
    x73 = torch.where(valid[:, :, :, None] > 0, x72, 0)
    del x72
    x74 = tiles.prefix_sum(x73, 2)
    x75 = torch.exp2(x74)
    del x74
    x76 = k * x75
    x77 = x76 @ S
    x83 = q * x75
    x84 = x83 @ S
    x90 = tiles.suffix_sum(x73, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x94 = x73.sum(2)
    x95 = torch.exp2(x94)
    del x94
    x98 = k * x91
    x121 = tiles.LN2
    x141 = x84 * do
    del x84
    x142 = x141.sum(3)
    del x141
    x143 = x142 * x49
    del x142
    x145 = do @ S.mT
    x148 = x53[:, :, :, None] * do
    x149 = x83.mT @ x148
    del x148, x83
    x150 = x149 * x49
    del x149
    x187 = tiles.LOG2E
    x243 = -x16 + 1
    x282 = torch.sigmoid(x11)
    del x11
    x324 = torch.addcmul(v, x21[:, :, :, None], x77, value=-1)
    x471 = valid * x16
    del x16
    x472 = x21 * x471
    x473 = x21 * x21
    x474 = x21 * x473
    del x473
    x475 = x243 * x472
    del x243
    x476 = x10 * x187
    del x10
    x477 = x53 * x53
    x478 = x477 * x53
    del x477
    x480 = q * x49
    x482 = x53[:, :, :, None] * x145
    del x145
    x483 = x53 * x49
    x484 = x472[:, :, :, None] * k
    x485 = x22 * -1
    x486 = x53[:, :, :, None] * x480
    del x53
    x490 = x75 * x482 * x49
    x491 = x480 * x482
    del x480, x482
    x496 = x495 @ x324
    del x324
    x502 = x21[:, :, :, None] * x76
    del x76
    x503 = x494.mT @ do
    x513 = do @ x496.mT
    f1 = tiles.decay_factors(x73)
    x514, x515, x516 = tiles.decay_dot_grads(x513, x486, x484, f1)
    del x486, x513, x73
    x532 = q * x514
    x533 = x532.sum(3)
    del x532
    x534 = x533 * x49
    del x533
    x535 = x143 + x534
    del x143, x534
    x569 = x478 * x535
    del x478, x535
    x571 = torch.addcmul(x490, x483[:, :, :, None], x514)
    x571 = tiles.addcmul_(x571, x569[:, :, :, None], q, -1)
    del x483, x490, x514, x569
    dS_all, x517_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        x98_c = x98[a:b]
        x503_c = x503[a:b]
        x472_c = x472[a:b]
        x495_c = x495[a:b]
        x150_c = x150[a:b]
        x95_c = x95[a:b]
        x502_c = x502[a:b]
        x106 = x98_c @ dS
        x505 = torch.addcmul(x503_c, x472_c[:, :, :, None], x106)
        x517 = x495_c.mT @ x505
        x561 = torch.addcmul(x150_c, x95_c[:, :, :, None], dS)
        x561 = tiles.addmm_(x561, x502_c.mT, x517, -1)
        x517_all.append(x517)
        dS = x561
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x517 = torch.cat(x517_all[::-1])
    del dS_all
    del x517_all
    del x150, x502, x503
    x119 = S * dS
    x120 = x119.sum(3)
    del x119
    x123 = x95 * x120 * x121
    del x120, x95
    x124 = x123[:, :, None].expand(-1, -1, C, -1)
    del x123
    x506 = x496 @ dS.mT
    del dS
    x507 = tiles.product(x91, x506, x472[:, :, :, None])
    del x91
    x508 = x98 * x506
    del x506, x98
    x509 = x508.sum(3)
    x511 = (x472 * x121)[:, :, :, None] * x508
    del x508
    x512 = tiles.prefix_sum(x511, 2, exclusive=True)
    del x511
    x519 = x517 @ x496.mT
    del x496
    x520 = x519.tril(-1)
    del x519
    x521, x522, x523 = tiles.decay_dot_grads(x520, x485, x484, f1, strict=True)
    del f1, x484, x485, x520
    x524 = x517 @ S.mT
    x527 = torch.addcmul(x491, x524, x22, value=-1)
    del x22, x491
    x528 = x75 * x527 * x121
    del x527
    x529 = tiles.suffix_sum(x528, 2)
    del x528
    x530 = x124 + x512 + x516 + x523 + x529
    del x124, x512, x516, x523, x529
    x538 = x515 + x522
    del x515, x522
    x539 = k * x538
    x540 = x539.sum(3)
    del x539
    x543 = x77 * x517
    del x77
    x544 = x543.sum(3)
    del x543
    x546 = tiles.addcmul_(-x544, x540, x471)
    del x544
    x547 = k * x521
    x548 = x547.sum(3)
    del x547
    x549 = tiles.addcmul_(-x548, x509, x471)
    del x471, x548
    x552 = tiles.product(x12, x530, valid[:, :, :, None])
    del x12
    x553 = x552.sum(2)
    del x552
    x554 = x553.sum(2)
    del x553
    x555 = x282 * x530
    del x282, x530
    x556 = valid[:, :, :, None] * x555
    del x555
    x557 = (x476 * -1)[:, :, None, None] * x556
    x558 = x556.sum(2)
    del x556
    x559 = (x476 * -1)[:, :, None] * x558
    del x558
    x560 = x554 * x476 * -1
    del x476, x554
    x562 = tiles.addcmul_(x540 * x475, x509, x475)
    del x475, x509, x540
    x563 = tiles.product(x75, x524, x21[:, :, :, None])
    del x524, x75
    x566 = tiles.addcmul_(x549 * -1 * x474, x546, x474, -1)
    del x474, x546, x549
    x568 = tiles.addcmul_(x507 - x563, x472[:, :, :, None], x538)
    x568 = tiles.addcmul_(x568, x566[:, :, :, None], k)
    x568 = tiles.addcmul_(x568, x21[:, :, :, None], x521, -1)
    del x21, x472, x507, x521, x538, x563, x566
    return (x571, x568, x517, x557, x562, x560, x559), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[2]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x12 = (x9 * -1)[:, :, None] * x11
    del x11, x9
    x13 = torch.exp(x12)
    del x12
    x15 = k * k
    x16 = x15.sum(2)
    del x15
    x18 = x16 + 1e-06
    del x16
    x19 = torch.rsqrt(x18)
    del x18
    x25 = torch.sigmoid(b_)
    x30 = (K) ** -0.5
    x31 = q * q
    x32 = x31.sum(2)
    del x31
    x33 = x32 + 1e-06
    del x32
    x34 = torch.rsqrt(x33)
    del x33
    x135 = k * x13
    x136 = x19 * x25
    del x25
    x137 = x34 * x30
    del x34
    x139 = x137[:, :, None] * q
    del x137
    x141 = (x19 * -1)[:, :, None] * x135
    del x135, x19
    S_all, x146_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x141_c = x141[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x136_c = x136[a:b]
        x13_c = x13[a:b]
        x139_c = x139[a:b]
        x142 = (x141_c[..., None, :] @ S).squeeze(-2)
        x143 = v_c + x142
        x144 = (x136_c[:, :, None] * k_c)[:, :, :, None] * x143[:, :, None]
        x145 = torch.addcmul(x144, x13_c[:, :, :, None], S)
        x146 = (x139_c[..., None, :] @ x145).squeeze(-2)
        x146_all.append(x146)
        S = x145
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x146 = torch.cat(x146_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x146_all
    del x13, x136, x139, x141
    return (x146,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x12 = (x9 * -1)[:, :, None] * x11
    del x11, x9
    x13 = torch.exp(x12)
    del x12
    x15 = k * k
    x16 = x15.sum(2)
    del x15
    x18 = x16 + 1e-06
    del x16
    x19 = torch.rsqrt(x18)
    del x18
    x25 = torch.sigmoid(b_)
    x135 = k * x13
    x136 = x19 * x25
    del x25
    x141 = (x19 * -1)[:, :, None] * x135
    del x135, x19
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x141_c = x141[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x136_c = x136[a:b]
        x13_c = x13[a:b]
        x142 = (x141_c[..., None, :] @ S).squeeze(-2)
        x143 = v_c + x142
        x144 = (x136_c[:, :, None] * k_c)[:, :, :, None] * x143[:, :, None]
        x145 = torch.addcmul(x144, x13_c[:, :, :, None], S)
        S = x145
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x13, x136, x141
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    x12 = (x9 * -1)[:, :, None] * x11
    x13 = torch.exp(x12)
    del x12
    x15 = k * k
    x16 = x15.sum(2)
    del x15
    x18 = x16 + 1e-06
    del x16
    x19 = torch.rsqrt(x18)
    del x18
    x25 = torch.sigmoid(b_)
    x30 = (K) ** -0.5
    x31 = q * q
    x32 = x31.sum(2)
    del x31
    x33 = x32 + 1e-06
    del x32
    x34 = torch.rsqrt(x33)
    del x33
    x91 = -x25 + 1
    x124 = torch.sigmoid(x10)
    del x10
    x135 = k * x13
    x136 = x19 * x25
    x137 = x34 * x30
    x138 = x19 * x136
    x139 = x137[:, :, None] * q
    x141 = (x19 * -1)[:, :, None] * x135
    x142 = (x141[..., None, :] @ S).squeeze(-2)
    del x141
    x143 = v + x142
    del x142
    x144 = (x136[:, :, None] * k)[:, :, :, None] * x143[:, :, None]
    x145 = torch.addcmul(x144, x13[:, :, :, None], S)
    del x144
    x147 = (do[..., None, :] @ x145.mT).squeeze(-2)
    del x145
    x148 = do[:, :, None] * x139[:, :, :, None]
    del x139
    x149 = x137[:, :, None] * x147
    x150 = q * x147
    del x147
    x151 = x150.sum(2)
    del x150
    x152 = tiles.product(x34, x34, x151, x137, (-0.5))
    del x137, x151, x34
    x153 = x152[:, :, None] * q
    del x152
    x186 = torch.add(x149, x153, alpha=2)
    del x149, x153
    x154_all, x159_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x148_c = x148[a:b]
        k_c = k[a:b]
        x138_c = x138[a:b]
        x135_c = x135[a:b]
        x13_c = x13[a:b]
        x154 = dS + x148_c
        x158 = k_c[:, :, :, None] * x154
        x159 = x158.sum(2)
        x182 = (x138_c[:, :, None] * x159)[:, :, None] * x135_c[:, :, :, None]
        x183 = tiles.addcmul_(-x182, x13_c[:, :, :, None], x154)
        x154_all.append(x154)
        x159_all.append(x159)
        dS = x183
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x154 = torch.cat(x154_all[::-1])
    x159 = torch.cat(x159_all[::-1])
    del x154_all
    del x159_all
    del x138, x148
    x155 = x143[:, :, None] * x154
    x156 = x155.sum(3)
    del x155
    x157 = x136[:, :, None] * x156
    del x156
    x160 = x143 * x159
    del x143
    x161 = x160.sum(2)
    del x160
    x162 = x25 * x161
    del x25
    x163 = x136[:, :, None] * x159
    del x159
    x164 = tiles.product(x161, x91, x136)
    del x136, x161, x91
    x165 = (x163[..., None, :] @ S.mT).squeeze(-2)
    x166 = x165 * x135
    del x135
    x167 = x166.sum(2)
    del x166
    x168 = x162 - x167
    del x162, x167
    x169 = tiles.product(x19, x19, x19, x168, (-0.5))
    del x168
    x170 = x169[:, :, None] * k
    del x169
    x172 = S * x154
    del x154
    x173 = x172.sum(3)
    del x172
    x174 = x19[:, :, None] * x165
    del x165, x19
    x176 = torch.addcmul(x173, k, x174, value=-1)
    del x173
    x177 = x13 * x176
    del x176
    x178 = x11 * x177
    del x11
    x179 = x178.sum(2)
    del x178
    x180 = tiles.product(x177, x124, (x9 * -1)[:, :, None])
    del x124, x177
    x181 = x9 * x179 * -1
    del x179, x9
    x185 = tiles.addcmul_(torch.add(x157, x170, alpha=2), x13, x174, -1)
    del x13, x157, x170, x174
    return (x186, x185, x163, x180, x164, x181, x180), (dS_end,)
