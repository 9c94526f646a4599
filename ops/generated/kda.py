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

from rnnc.ops import scan, tiles

NAME = "kda"
SPEC_HASH = "ab5064437e049285a212ca2d9d4258b005a5d8133a1410ae24430d4acce14040"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    x502 = x21[:, :, :, None] * x76
    del x21, x76
    x575 = x483[:, :, :, None] * x83
    del x483, x83
    S_rows = scan.Rows(steps, H)
    x577_rows = scan.Rows(steps, H)
    x580_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x502_c,
        x495_c,
        x575_c,
        x494_c,
        x95_c,
        x488_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x502,
            x495,
            x575,
            x494,
            x95[:, :, :, None],
            x488.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x573 = torch.baddbmm(v_c, x502_c, S, alpha=-1)
        x577 = torch.bmm(x495_c, x573, out=x577_rows.room(n))
        x580 = torch.bmm(x575_c, S, out=x580_rows.room(n))
        x580 = scan.addmm(x580, x494_c, x577)
        x582 = scan.addmm(scan.scale(S, x95_c, own), x488_c, x577)
        if keep:
            x577_rows.put(x577)
        x580_rows.put(x580)
        S = x582
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x580 = x580_rows.joined()
    if keep:
        S = S_rows.joined()
        x577 = x577_rows.joined()
    del S_rows
    del x577_rows
    del x580_rows
    del x488, x502, x575, x95
    return (x580,), (S_end,), (S, x494, x495, x577) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    x502 = x21[:, :, :, None] * x76
    del x21, x76
    S_rows = scan.Rows(steps, H)
    x577_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x502_c,
        x495_c,
        x95_c,
        x488_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x502,
            x495,
            x95[:, :, :, None],
            x488.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x573 = torch.baddbmm(v_c, x502_c, S, alpha=-1)
        x577 = torch.bmm(x495_c, x573, out=x577_rows.room(n))
        x582 = scan.addmm(scan.scale(S, x95_c, own), x488_c, x577)
        if keep:
            x577_rows.put(x577)
        S = x582
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x577 = x577_rows.joined()
    del S_rows
    del x577_rows
    del x488, x502, x95
    return (), (S_end,), (S, x494, x495, x577) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x494, x495, x496) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
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
    x83 = q * x75
    x90 = tiles.suffix_sum(x73, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x94 = x73.sum(2)
    x95 = torch.exp2(x94)
    del x94
    x98 = k * x91
    x121 = tiles.LN2
    x145 = do @ S.mT
    x148 = x53[:, :, :, None] * do
    x187 = tiles.LOG2E
    x243 = -x16 + 1
    x282 = torch.sigmoid(x11)
    del x11
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
    x483 = x53 * x49
    x484 = x472[:, :, :, None] * k
    x485 = x22 * -1
    x486 = x53[:, :, :, None] * x480
    del x53
    x490 = x75 * x482 * x49
    x491 = x480 * x482
    del x480, x482
    x502 = x21[:, :, :, None] * x76
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
    x583 = x83 * x145
    del x145
    x584 = x583.sum(3)
    del x583
    x585 = x584 * x49
    del x584
    x586 = x585 + x534
    del x534, x585
    x587 = x478 * x586
    del x478, x586
    x589 = torch.addcmul(x490, x483[:, :, :, None], x514)
    x589 = tiles.addcmul_(x589, x587[:, :, :, None], q, -1)
    del x483, x490, x514, x587
    x597 = x472[:, :, :, None] * x98
    x120_rows = scan.Rows(steps, H, True)
    x506_rows = scan.Rows(steps, H, True)
    x600_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x597_c,
        x503_c,
        x495_c,
        S_c,
        x496_c,
        x95_c,
        x83_c,
        x148_c,
        x502_c,
    ) in scan.each(
        steps,
        H,
        (
            x597,
            x503,
            x495.mT,
            S,
            x496,
            x95[:, :, :, None],
            x83.mT,
            x148,
            x502.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x599 = torch.baddbmm(x503_c, x597_c, dS)
        x600 = torch.bmm(x495_c, x599, out=x600_rows.room(n))
        x119 = S_c * dS
        x120 = x119.sum(2)
        x506 = torch.bmm(x496_c, dS.mT, out=x506_rows.room(n))
        x634 = scan.addmm(scan.scale(dS, x95_c, own), x83_c, x148_c, x49)
        x634 = scan.addmm(x634, x502_c, x600, -1)
        x120_rows.put(x120)
        x506_rows.put(x506)
        x600_rows.put(x600)
        dS = x634
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x120 = x120_rows.joined()
    x506 = x506_rows.joined()
    x600 = x600_rows.joined()
    del x120_rows
    del x506_rows
    del x600_rows
    del x148, x502, x503, x597, x83
    x123 = x95 * x120 * x121
    del x120, x95
    x124 = x123[:, :, None].expand(-1, -1, C, -1)
    del x123
    x507 = tiles.product(x91, x506, x472[:, :, :, None])
    del x91
    x508 = x98 * x506
    del x506, x98
    x509 = x508.sum(3)
    x511 = (x472 * x121)[:, :, :, None] * x508
    del x508
    x512 = tiles.prefix_sum(x511, 2, exclusive=True)
    del x511
    x602 = x600 @ x496.mT
    x603 = x602.tril(-1)
    del x602
    x604, x605, x606 = tiles.decay_dot_grads(x603, x485, x484, f1, strict=True)
    del f1, x484, x485, x603
    x607 = x600 @ S.mT
    x610 = torch.addcmul(x491, x607, x22, value=-1)
    del x22, x491
    x611 = x75 * x610 * x121
    del x610
    x612 = tiles.suffix_sum(x611, 2)
    del x611
    x613 = x124 + x512 + x516 + x606 + x612
    del x124, x512, x516, x606, x612
    x615 = x515 + x605
    del x515, x605
    x616 = k * x615
    x617 = x616.sum(3)
    del x616
    x621 = k * x604
    x622 = x621.sum(3)
    del x621
    x623 = tiles.addcmul_(-x622, x509, x471)
    del x622
    x625 = tiles.product(x12, x613, valid[:, :, :, None])
    del x12
    x626 = x625.sum(2)
    del x625
    x627 = x626.sum(2)
    del x626
    x628 = x282 * x613
    del x282, x613
    x629 = valid[:, :, :, None] * x628
    del x628
    x630 = (x476 * -1)[:, :, None, None] * x629
    x631 = x629.sum(2)
    del x629
    x632 = (x476 * -1)[:, :, None] * x631
    del x631
    x633 = x627 * x476 * -1
    del x476, x627
    x635 = tiles.addcmul_(x617 * x475, x509, x475)
    del x475, x509
    x636 = tiles.product(x75, x607, x21[:, :, :, None])
    del x75
    x638 = x76 * x607
    del x607, x76
    x639 = x638.sum(3)
    del x638
    x640 = tiles.addcmul_(-x639, x617, x471)
    del x471, x617, x639
    x642 = tiles.addcmul_(x623 * -1 * x474, x640, x474, -1)
    del x474, x623, x640
    x644 = tiles.addcmul_(x507 - x636, x472[:, :, :, None], x615)
    x644 = tiles.addcmul_(x644, x642[:, :, :, None], k)
    x644 = tiles.addcmul_(x644, x21[:, :, :, None], x604, -1)
    del x21, x472, x507, x604, x615, x636, x642
    return (x589, x644, x600, x630, x635, x633, x632), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x187 = x136[:, :, None] * k
    del x136
    S_rows = scan.Rows(steps, H)
    x190_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x141_c,
        v_c,
        x13_c,
        x187_c,
        x139_c,
    ) in scan.each(
        steps,
        H,
        (
            x141,
            v,
            x13[:, :, :, None],
            x187[:, :, :, None],
            x139,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x142 = (x141_c[..., None, :] @ S).squeeze(-2)
        x143 = v_c + x142
        x189 = tiles.addcmul_(scan.scale(S, x13_c, own), x187_c, x143[:, None])
        x190 = (x139_c[..., None, :] @ x189).squeeze(-2)
        x190_rows.put(x190)
        S = x189
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x190 = x190_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x190_rows
    del x13, x139, x141, x187
    return (x190,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
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
    x187 = x136[:, :, None] * k
    del x136
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x141_c,
        v_c,
        x13_c,
        x187_c,
    ) in scan.each(
        steps,
        H,
        (
            x141,
            v,
            x13[:, :, :, None],
            x187[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x142 = (x141_c[..., None, :] @ S).squeeze(-2)
        x143 = v_c + x142
        x189 = tiles.addcmul_(scan.scale(S, x13_c, own), x187_c, x143[:, None])
        S = x189
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x13, x141, x187
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x150 = q * x147
    x151 = x150.sum(2)
    del x150
    x152 = tiles.product(x34, x34, x151, x137, (-0.5))
    del x151, x34
    x186 = tiles.addcmul_(x137[:, :, None] * x147, x152[:, :, None], q, 2)
    del x137, x147, x152
    x191 = x138[:, :, None] * x135
    del x138
    x154_rows = scan.Rows(steps, H, True)
    x159_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x148_c,
        k_c,
        x13_c,
        x191_c,
    ) in scan.each(
        steps,
        H,
        (
            x148,
            k,
            x13[:, :, :, None],
            x191[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x154 = dS + x148_c
        x158 = k_c[:, :, None] * x154
        x159 = x158.sum(1)
        x193 = tiles.addcmul_(x13_c * x154, x191_c, x159[:, None], -1)
        x154_rows.put(x154)
        x159_rows.put(x159)
        dS = x193
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x154 = x154_rows.joined()
    x159 = x159_rows.joined()
    del x154_rows
    del x159_rows
    del x148, x191
    x155 = x143[:, :, None] * x154
    x156 = x155.sum(3)
    del x155
    x160 = x143 * x159
    del x143
    x161 = x160.sum(2)
    del x160
    x163 = x136[:, :, None] * x159
    del x159
    x164 = tiles.product(x161, x91, x136)
    del x91
    x165 = (x163[..., None, :] @ S.mT).squeeze(-2)
    x166 = x165 * x135
    del x135
    x167 = x166.sum(2)
    del x166
    x168 = tiles.addcmul_(-x167, x25, x161)
    del x161, x167, x25
    x169 = tiles.product(x19, x19, x19, x168, (-0.5))
    del x168
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
    x185 = tiles.addcmul_(x136[:, :, None] * x156, x169[:, :, None], k, 2)
    x185 = tiles.addcmul_(x185, x13, x174, -1)
    del x13, x136, x156, x169, x174
    return (x186, x185, x163, x180, x164, x181, x180), (dS_end,)
