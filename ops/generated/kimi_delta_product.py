"""kimi_delta_product: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1]
for i in n:
    S[t] <- S[t] + beta[i] * u @ (v[i] - S[t].T @ u).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = 2 * sigmoid(b)
  u = unit(k[i])

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = beta[i] * u,  f = -u
  q_ = K**-0.5 * unit(q)
  one row m for each of the n micro-steps of a token, t(m) its token
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[m,l] = f[m]^T (G[t(m)]/G[t(l)]) w[l],  l < m
  U = (I - P)^-1 (v + (f * G) S_in)
  A[i,l] = q_[i]^T (G[i]/G[t(l)]) w[l],  t(l) <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w[l] * G[C]/G[t(l)])^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "kimi_delta_product"
SPEC_HASH = "0c31f253dbf8d0b0c84a2a0fe6825625768570503cdbdced46bf2a85094d5923"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("a", ("K",)), ("b", ("n",)))
PARAMS = (("A_log", ()), ("dt_bias", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    n_ = k.shape[3]
    K = q.shape[3]
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None, None] * x12
    del x10, x12
    x26 = k.flatten(2, 3)
    x27 = valid[:, :, :, None].expand(-1, -1, -1, n_)
    x28 = x27.flatten(2, 3)
    del x27
    x29 = b_.flatten(2, 3)
    x30 = torch.sigmoid(x29)
    del x29
    x31 = x26 * x26
    x32 = x31.sum(3)
    del x31
    x33 = x32 + 1e-06
    del x32
    x34 = torch.rsqrt(x33)
    del x33
    x36 = v.flatten(2, 3)
    x64 = (K) ** -0.5
    x65 = q * q
    x66 = x65.sum(3)
    del x65
    x67 = x66 + 1e-06
    del x66
    x68 = torch.rsqrt(x67)
    del x67
    x91 = x13 * tiles.LOG2E
    del x13
    x92 = torch.where(valid[:, :, :, None] > 0, x91, 0)
    del x91
    x93 = tiles.prefix_sum(x92, 2)
    x94 = torch.exp2(x93)
    del x93
    x95 = x94[:, :, :, None].expand(-1, -1, -1, n_, -1)
    x96 = x95.flatten(2, 3)
    del x95
    x97 = x26 * x96
    del x96
    x104 = q * x94
    del x94
    x111 = tiles.suffix_sum(x92, 2, exclusive=True)
    x112 = torch.exp2(x111)
    del x111
    x115 = x92.sum(2)
    x116 = torch.exp2(x115)
    del x115
    x118 = x112[:, :, :, None].expand(-1, -1, -1, n_, -1)
    del x112
    x119 = x118.flatten(2, 3)
    del x118
    x121 = x26 * x119
    del x119
    x534 = x28 * x30
    del x28, x30
    x535 = x34 * x534
    del x534
    x543 = q * x64
    x545 = x34[:, :, :, None] * x26
    x546 = x535[:, :, :, None] * x26
    del x26
    x548 = x68 * x64
    x549 = x546 * 2
    del x546
    x550 = x545 * -1
    del x545
    x551 = x68[:, :, :, None] * x543
    del x543, x68
    x553 = x535[:, :, :, None] * x121
    del x121, x535
    f1 = tiles.decay_factors(x92)
    x558 = tiles.decay_dot(x550, x549, f1, strict=True)
    del x550
    x559 = tiles.decay_dot(x551, x549, f1)
    del f1, x549, x551, x92
    x560 = tiles.inverse(x558)
    del x558
    x567 = x34[:, :, :, None] * x97
    del x34, x97
    x648 = x548[:, :, :, None] * x104
    del x104, x548
    S_rows = scan.Rows(steps, H)
    x650_rows = scan.Rows(steps, H)
    x653_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x36_c,
        x567_c,
        x560_c,
        x648_c,
        x559_c,
        x116_c,
        x553_c,
    ) in scan.each(
        steps,
        H,
        (
            x36,
            x567,
            x560,
            x648,
            x559,
            x116[:, :, :, None],
            x553.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x646 = torch.baddbmm(x36_c, x567_c, S, alpha=-1)
        x650 = torch.bmm(x560_c, x646, out=x650_rows.room(n))
        x653 = torch.bmm(x648_c, S, out=x653_rows.room(n))
        x653 = scan.addmm(x653, x559_c, x650)
        x655 = scan.addmm(scan.scale(S, x116_c, own), x553_c, x650, 2)
        if keep:
            x650_rows.put(x650)
        x653_rows.put(x653)
        S = x655
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x653 = x653_rows.joined()
    if keep:
        S = S_rows.joined()
        x650 = x650_rows.joined()
    del S_rows
    del x650_rows
    del x653_rows
    del x116, x36, x553, x567, x648
    return (x653,), (S_end,), (S, x559, x560, x650) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    n_ = k.shape[3]
    K = q.shape[3]
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None, None] * x12
    del x10, x12
    x26 = k.flatten(2, 3)
    x27 = valid[:, :, :, None].expand(-1, -1, -1, n_)
    x28 = x27.flatten(2, 3)
    del x27
    x29 = b_.flatten(2, 3)
    x30 = torch.sigmoid(x29)
    del x29
    x31 = x26 * x26
    x32 = x31.sum(3)
    del x31
    x33 = x32 + 1e-06
    del x32
    x34 = torch.rsqrt(x33)
    del x33
    x36 = v.flatten(2, 3)
    x64 = (K) ** -0.5
    x65 = q * q
    x66 = x65.sum(3)
    del x65
    x67 = x66 + 1e-06
    del x66
    x68 = torch.rsqrt(x67)
    del x67
    x91 = x13 * tiles.LOG2E
    del x13
    x92 = torch.where(valid[:, :, :, None] > 0, x91, 0)
    del x91
    x93 = tiles.prefix_sum(x92, 2)
    x94 = torch.exp2(x93)
    del x93
    x95 = x94[:, :, :, None].expand(-1, -1, -1, n_, -1)
    del x94
    x96 = x95.flatten(2, 3)
    del x95
    x97 = x26 * x96
    del x96
    x111 = tiles.suffix_sum(x92, 2, exclusive=True)
    x112 = torch.exp2(x111)
    del x111
    x115 = x92.sum(2)
    x116 = torch.exp2(x115)
    del x115
    x118 = x112[:, :, :, None].expand(-1, -1, -1, n_, -1)
    del x112
    x119 = x118.flatten(2, 3)
    del x118
    x121 = x26 * x119
    del x119
    x534 = x28 * x30
    del x28, x30
    x535 = x34 * x534
    del x534
    x543 = q * x64
    x545 = x34[:, :, :, None] * x26
    x546 = x535[:, :, :, None] * x26
    del x26
    x549 = x546 * 2
    del x546
    x550 = x545 * -1
    del x545
    x551 = x68[:, :, :, None] * x543
    del x543, x68
    x553 = x535[:, :, :, None] * x121
    del x121, x535
    f1 = tiles.decay_factors(x92)
    x558 = tiles.decay_dot(x550, x549, f1, strict=True)
    del x550
    x559 = tiles.decay_dot(x551, x549, f1)
    del f1, x549, x551, x92
    x560 = tiles.inverse(x558)
    del x558
    x567 = x34[:, :, :, None] * x97
    del x34, x97
    S_rows = scan.Rows(steps, H)
    x650_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x36_c,
        x567_c,
        x560_c,
        x116_c,
        x553_c,
    ) in scan.each(
        steps,
        H,
        (
            x36,
            x567,
            x560,
            x116[:, :, :, None],
            x553.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x646 = torch.baddbmm(x36_c, x567_c, S, alpha=-1)
        x650 = torch.bmm(x560_c, x646, out=x650_rows.room(n))
        x655 = scan.addmm(scan.scale(S, x116_c, own), x553_c, x650, 2)
        if keep:
            x650_rows.put(x650)
        S = x655
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x650 = x650_rows.joined()
    del S_rows
    del x650_rows
    del x116, x36, x553, x567
    return (), (S_end,), (S, x559, x560, x650) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x559, x560, x561) = kept
    (do,) = douts
    n_ = k.shape[3]
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None, None] * x12
    x26 = k.flatten(2, 3)
    x27 = valid[:, :, :, None].expand(-1, -1, -1, n_)
    x28 = x27.flatten(2, 3)
    del x27
    x29 = b_.flatten(2, 3)
    x30 = torch.sigmoid(x29)
    del x29
    x31 = x26 * x26
    x32 = x31.sum(3)
    del x31
    x33 = x32 + 1e-06
    del x32
    x34 = torch.rsqrt(x33)
    del x33
    x64 = (K) ** -0.5
    x65 = q * q
    x66 = x65.sum(3)
    del x65
    x67 = x66 + 1e-06
    del x66
    x68 = torch.rsqrt(x67)
    del x67
    x91 = x13 * tiles.LOG2E
    del x13
    x92 = torch.where(valid[:, :, :, None] > 0, x91, 0)
    del x91
    x93 = tiles.prefix_sum(x92, 2)
    x94 = torch.exp2(x93)
    del x93
    x95 = x94[:, :, :, None].expand(-1, -1, -1, n_, -1)
    x96 = x95.flatten(2, 3)
    del x95
    x97 = x26 * x96
    x104 = q * x94
    x111 = tiles.suffix_sum(x92, 2, exclusive=True)
    x112 = torch.exp2(x111)
    del x111
    x115 = x92.sum(2)
    x116 = torch.exp2(x115)
    del x115
    x118 = x112[:, :, :, None].expand(-1, -1, -1, n_, -1)
    x119 = x118.flatten(2, 3)
    del x118
    x121 = x26 * x119
    x149 = tiles.LN2
    x173 = do @ S.mT
    x176 = x68[:, :, :, None] * do
    x218 = tiles.LOG2E
    x277 = -x30 + 1
    x338 = torch.sigmoid(x11)
    del x11
    x534 = x28 * x30
    del x28, x30
    x535 = x34 * x534
    x536 = x34 * x34
    x537 = x34 * x536
    del x536
    x538 = x277 * x535
    del x277
    x539 = x10 * x218
    del x10
    x540 = x68 * x68
    x541 = x540 * x68
    del x540
    x543 = q * x64
    x545 = x34[:, :, :, None] * x26
    x546 = x535[:, :, :, None] * x26
    x547 = x68[:, :, :, None] * x173
    x548 = x68 * x64
    x549 = x546 * 2
    x550 = x545 * -1
    x551 = x68[:, :, :, None] * x543
    del x68
    x554 = x94 * x547 * x64
    x555 = x543 * x547
    del x543, x547
    x567 = x34[:, :, :, None] * x97
    x568 = x559.mT @ do
    x579 = do @ x561.mT
    f1 = tiles.decay_factors(x92)
    x580, x581, x582 = tiles.decay_dot_grads(x579, x551, x549, f1)
    del x551, x579, x92
    x600 = q * x580
    x601 = x600.sum(3)
    del x600
    x602 = x601 * x64
    del x601
    x656 = x104 * x173
    del x173
    x657 = x656.sum(3)
    del x656
    x658 = x657 * x64
    del x657
    x659 = x658 + x602
    del x602, x658
    x660 = x541 * x659
    del x541, x659
    x662 = torch.addcmul(x554, x548[:, :, :, None], x580)
    x662 = tiles.addcmul_(x662, x660[:, :, :, None], q, -1)
    del x548, x554, x580, x660
    x671 = x535[:, :, :, None] * x121
    x148_rows = scan.Rows(steps, H, True)
    x571_rows = scan.Rows(steps, H, True)
    x674_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x671_c,
        x568_c,
        x560_c,
        S_c,
        x561_c,
        x116_c,
        x104_c,
        x176_c,
        x567_c,
    ) in scan.each(
        steps,
        H,
        (
            x671,
            x568,
            x560.mT,
            S,
            x561,
            x116[:, :, :, None],
            x104.mT,
            x176,
            x567.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x673 = torch.baddbmm(x568_c, x671_c, dS, alpha=2)
        x674 = torch.bmm(x560_c, x673, out=x674_rows.room(n))
        x147 = S_c * dS
        x148 = x147.sum(2)
        x571 = torch.bmm(x561_c, dS.mT, out=x571_rows.room(n))
        x715 = scan.addmm(scan.scale(dS, x116_c, own), x104_c, x176_c, x64)
        x715 = scan.addmm(x715, x567_c, x674, -1)
        x148_rows.put(x148)
        x571_rows.put(x571)
        x674_rows.put(x674)
        dS = x715
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x148 = x148_rows.joined()
    x571 = x571_rows.joined()
    x674 = x674_rows.joined()
    del x148_rows
    del x571_rows
    del x674_rows
    del x104, x176, x567, x568, x671
    x151 = x116 * x148 * x149
    del x116, x148
    x152 = x151[:, :, None].expand(-1, -1, C, -1)
    del x151
    x572 = x571 * x546 * 2
    del x546
    x573 = x121 * x571
    del x121
    x574 = x573.sum(3)
    del x573
    x575 = x572.unflatten(2, (-1, n_))
    del x572
    x576 = x575.sum(3)
    del x575
    x577 = x112 * x576 * x149
    del x112, x576
    x578 = tiles.prefix_sum(x577, 2, exclusive=True)
    del x577
    x624 = tiles.product(x119, x571, x535[:, :, :, None])
    del x119, x571
    x676 = x674 @ x561.mT
    x677 = x676.tril(-1)
    del x676
    x678, x679, x680 = tiles.decay_dot_grads(x677, x550, x549, f1, strict=True)
    del f1, x549, x550, x677
    x681 = x674 @ S.mT
    x683 = x681 * x545 * -1
    del x545
    x684 = x683.unflatten(2, (-1, n_))
    del x683
    x685 = x684.sum(3)
    del x684
    x686 = x555 + x685
    del x555, x685
    x687 = x94 * x686 * x149
    del x686, x94
    x688 = tiles.suffix_sum(x687, 2)
    del x687
    x689 = x152 + x578 + x582 + x680 + x688
    del x152, x578, x582, x680, x688
    x691 = x581 + x679
    del x581, x679
    x692 = x26 * x691
    x693 = x692.sum(3)
    del x692
    x696 = x26 * x678
    x697 = x696.sum(3)
    del x696
    x698 = x674.unflatten(2, (-1, n_))
    del x674
    x699 = tiles.addcmul_(-x697, x574, x534, 2)
    del x697
    x702 = tiles.addcmul_(x693 * 2 * x538, x574, x538, 2)
    del x538, x574
    x703 = x702.unflatten(2, (-1, n_))
    del x702
    x704 = tiles.product(x96, x681, x34[:, :, :, None])
    del x96
    x706 = tiles.product(x12, x689, valid[:, :, :, None])
    del x12
    x707 = x706.sum(2)
    del x706
    x708 = x707.sum(2)
    del x707
    x709 = x338 * x689
    del x338, x689
    x710 = valid[:, :, :, None] * x709
    del x709
    x711 = (x539 * -1)[:, :, None, None] * x710
    x712 = x710.sum(2)
    del x710
    x713 = (x539 * -1)[:, :, None] * x712
    del x712
    x714 = x708 * x539 * -1
    del x539, x708
    x716 = x97 * x681
    del x681, x97
    x717 = x716.sum(3)
    del x716
    x718 = tiles.addcmul_(-x717, x693, x534, 2)
    del x534, x693, x717
    x720 = tiles.addcmul_(x699 * -1 * x537, x718, x537, -1)
    del x537, x699, x718
    x722 = tiles.addcmul_(2 * x624 - x704, x720[:, :, :, None], x26)
    x722 = tiles.addcmul_(x722, x535[:, :, :, None], x691, 2)
    x722 = tiles.addcmul_(x722, x34[:, :, :, None], x678, -1)
    del x26, x34, x535, x624, x678, x691, x704, x720
    x723 = x722.unflatten(2, (-1, n_))
    del x722
    return (x662, x723, x698, x711, x703, x714, x713), (dS_end,)


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
    x26 = torch.sigmoid(b_)
    x27 = k * k
    x28 = x27.sum(3)
    del x27
    x29 = x28 + 1e-06
    del x28
    x30 = torch.rsqrt(x29)
    del x29
    x35 = x13[:, :, None] * k
    x48 = k @ k.mT
    x60 = (K) ** -0.5
    x61 = q * q
    x62 = x61.sum(2)
    del x61
    x63 = x62 + 1e-06
    del x62
    x64 = torch.rsqrt(x63)
    del x63
    x411 = x26 * x30
    x412 = x26 * x30
    del x26
    x413 = x64 * x60
    del x64
    x417 = x413[:, :, None] * q
    del x413
    x418 = x412[:, :, :, None] * k
    del x412
    x426 = tiles.product(x48, (x30 * -2)[:, :, :, None], x411[:, :, None])
    del x411, x48
    x427 = tiles.inverse(x426)
    del x426
    x495 = x30[:, :, :, None] * x35
    del x30, x35
    S_rows = scan.Rows(steps, H)
    x499_rows = scan.Rows(steps, H)
    x502_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x495_c,
        x427_c,
        x13_c,
        x418_c,
        x417_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x495,
            x427,
            x13[:, :, :, None],
            x418.mT,
            x417,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x497 = torch.baddbmm(v_c, x495_c, S, alpha=-1)
        x499 = torch.bmm(x427_c, x497, out=x499_rows.room(n))
        x501 = scan.addmm(scan.scale(S, x13_c, own), x418_c, x499, 2)
        x502 = (x417_c[..., None, :] @ x501).squeeze(-2)
        if keep:
            x499_rows.put(x499)
        x502_rows.put(x502)
        S = x501
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x502 = x502_rows.joined()
    if keep:
        S = S_rows.joined()
        x499 = x499_rows.joined()
    del S_rows
    del x499_rows
    del x502_rows
    del x13, x417, x418, x495
    return (x502,), (S_end,), (S, x427, x499) if keep else None


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
    x26 = torch.sigmoid(b_)
    x27 = k * k
    x28 = x27.sum(3)
    del x27
    x29 = x28 + 1e-06
    del x28
    x30 = torch.rsqrt(x29)
    del x29
    x35 = x13[:, :, None] * k
    x48 = k @ k.mT
    x411 = x26 * x30
    x412 = x26 * x30
    del x26
    x418 = x412[:, :, :, None] * k
    del x412
    x426 = tiles.product(x48, (x30 * -2)[:, :, :, None], x411[:, :, None])
    del x411, x48
    x427 = tiles.inverse(x426)
    del x426
    x495 = x30[:, :, :, None] * x35
    del x30, x35
    S_rows = scan.Rows(steps, H)
    x499_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x495_c,
        x427_c,
        x13_c,
        x418_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x495,
            x427,
            x13[:, :, :, None],
            x418.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x497 = torch.baddbmm(v_c, x495_c, S, alpha=-1)
        x499 = torch.bmm(x427_c, x497, out=x499_rows.room(n))
        x501 = scan.addmm(scan.scale(S, x13_c, own), x418_c, x499, 2)
        if keep:
            x499_rows.put(x499)
        S = x501
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x499 = x499_rows.joined()
    del S_rows
    del x499_rows
    del x13, x418, x495
    return (), (S_end,), (S, x427, x499) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, x427, x428) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    x12 = (x9 * -1)[:, :, None] * x11
    x13 = torch.exp(x12)
    del x12
    x16 = torch.sigmoid(b_)
    x17 = k * k
    x18 = x17.sum(3)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x26 = torch.sigmoid(b_)
    x27 = k * k
    x28 = x27.sum(3)
    del x27
    x29 = x28 + 1e-06
    del x28
    x30 = torch.rsqrt(x29)
    del x29
    x35 = x13[:, :, None] * k
    x36 = x35 @ S
    del x35
    x48 = k @ k.mT
    x60 = (K) ** -0.5
    x61 = q * q
    x62 = x61.sum(2)
    del x61
    x63 = x62 + 1e-06
    del x62
    x64 = torch.rsqrt(x63)
    del x63
    x170 = -x16 + 1
    x242 = torch.sigmoid(x10)
    del x10
    x312 = x30[:, :, :, None] * k
    x406 = x16 * x21
    x408 = x21 * x21
    x409 = x21 * x408
    del x408
    x410 = x170 * x406
    del x170
    x411 = x26 * x30
    x412 = x26 * x30
    del x26
    x413 = x64 * x60
    x414 = x64 * x64
    del x64
    x417 = x413[:, :, None] * q
    x418 = x412[:, :, :, None] * k
    x419 = do[:, :, None] * x417[:, :, :, None]
    del x417
    x430 = tiles.addmm_(x13[:, :, :, None] * S, x418.mT, x428, 2)
    del x418
    x432 = (do[..., None, :] @ x430.mT).squeeze(-2)
    del x430
    x434 = q * x432
    x435 = x434.sum(2)
    del x434
    x437 = x412[:, :, :, None] * x427
    del x412
    x491 = x414 * x435
    del x414, x435
    x492 = x491 * x413
    del x491
    x494 = tiles.addcmul_(x413[:, :, None] * x432, x492[:, :, None], q, -1)
    del x413, x432, x492
    x503 = x13[:, :, None] * x312
    x420_rows = scan.Rows(steps, H, True)
    x421_rows = scan.Rows(steps, H, True)
    x438_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x419_c,
        k_c,
        x437_c,
        x13_c,
        x503_c,
    ) in scan.each(
        steps,
        H,
        (
            x419,
            k,
            x437.mT,
            x13[:, :, :, None],
            x503.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x420 = dS + x419_c
        x421 = torch.add(2 * dS, x419_c, alpha=2)
        x422 = torch.bmm(k_c, x421)
        x438 = torch.bmm(x437_c, x422, out=x438_rows.room(n))
        x505 = scan.addmm(x13_c * x420, x503_c, x438, -1)
        x420_rows.put(x420)
        x421_rows.put(x421)
        x438_rows.put(x438)
        dS = x505
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x420 = x420_rows.joined()
    x421 = x421_rows.joined()
    x438 = x438_rows.joined()
    del x420_rows
    del x421_rows
    del x438_rows
    del x419, x437, x503
    x424 = S * x420
    del x420
    x425 = x424.sum(3)
    del x424
    x436 = x428 @ x421.mT
    del x421
    x441 = x438 @ x428.mT
    x442 = x441.tril(-1)
    del x441
    x444 = x48 * x442
    del x48
    x445 = x411[:, :, None] * x444
    x446 = x445.sum(3)
    del x445
    x447 = x30[:, :, :, None] * x444
    del x444
    x448 = x447.sum(2)
    del x447
    x449 = x411[:, :, None] * x442
    del x411
    x450 = x449 @ k
    del x449
    x451 = x30[:, :, :, None] * x442
    del x30, x442
    x452 = x451.mT @ k
    del x451
    x454 = x36 * x438
    del x36
    x455 = x454.sum(3)
    del x454
    x457 = tiles.addcmul_(-x455, x16, x448, -2)
    del x455
    x460 = x438 @ S.mT
    x462 = x460 * x312
    del x312
    x463 = x462.sum(2)
    del x462
    x465 = k * x436
    x466 = x465.sum(3)
    del x465
    x471 = tiles.addcmul_(-2 * x446, x16, x466)
    del x16, x446
    x475 = tiles.product(x460, x13[:, :, None], x21[:, :, :, None])
    del x460
    x476 = x425 - x463
    del x425, x463
    x477 = x13 * x476
    del x13, x476
    x478 = x11 * x477
    del x11
    x479 = x478.sum(2)
    del x478
    x480 = tiles.product(x242, x477, (x9 * -1)[:, :, None])
    del x242, x477
    x481 = x9 * x479 * -1
    del x479, x9
    x485 = tiles.addcmul_(x466 * x410, x448, x410, -2)
    del x410, x448, x466
    x488 = tiles.addcmul_(x457 * -1 * x409, x471, x409, -1)
    del x409, x457, x471
    x490 = tiles.addcmul_(-x475, x406[:, :, :, None], x436)
    x490 = tiles.addcmul_(x490, x488[:, :, :, None], k)
    x490 = tiles.addcmul_(x490, x406[:, :, :, None], x452, -2)
    x490 = tiles.addcmul_(x490, x21[:, :, :, None], x450, -2)
    del x21, x406, x436, x450, x452, x475, x488
    return (x494, x490, x438, x480, x485, x481, x480), (dS_end,)
