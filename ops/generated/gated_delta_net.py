"""gated_delta_net: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + beta * u @ (v - alpha * (S[t-1].T @ u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = 2 * sigmoid(b)
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

NAME = "gated_delta_net"
SPEC_HASH = "ff87af21b8d76f88cd738056d1fbc685dd8525fd65df1b2819552ac80851fa19"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[3]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
    del x10, x12
    x17 = torch.sigmoid(b_)
    x18 = k * k
    x19 = x18.sum(3)
    del x18
    x21 = x19 + 1e-06
    del x19
    x22 = torch.rsqrt(x21)
    del x21
    x43 = k @ k.mT
    x53 = (K) ** -0.5
    x54 = q * q
    x55 = x54.sum(3)
    del x54
    x56 = x55 + 1e-06
    del x55
    x57 = torch.rsqrt(x56)
    del x56
    x63 = q @ k.mT
    x82 = x13 * tiles.LOG2E
    del x13
    x83 = torch.where(valid > 0, x82, 0)
    del x82
    x84 = tiles.prefix_sum(x83, 2)
    x85 = torch.exp2(x84)
    del x84
    x86 = tiles.segment_sum(x83)
    x87 = torch.exp2(x86)
    del x86
    x97 = x63 * x87
    del x63
    x101 = tiles.suffix_sum(x83, 2, exclusive=True)
    x102 = torch.exp2(x101)
    del x101
    x105 = x83.sum(2)
    del x83
    x106 = torch.exp2(x105)
    del x105
    x587 = valid * x17
    x588 = x22 * x587
    del x587
    x589 = valid * x17
    del x17
    x590 = x22 * x589
    del x589
    x591 = x102 * x588
    del x102, x588
    x592 = x22 * x85
    x593 = x57 * x85
    del x85
    x605 = x22[:, :, :, None] * x43
    del x22, x43
    x607 = x590[:, :, None] * x605
    del x605
    x608 = x57 * x53
    del x57
    x611 = x593 * x53
    del x593
    x613 = x591[:, :, :, None] * k
    del x591
    x624 = x87 * x607 * -2
    del x607, x87
    x628 = x590[:, :, None] * x97
    del x590, x97
    x629 = tiles.inverse(x624)
    del x624
    S_all, x634_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        q_c = q[a:b]
        x106_c = x106[a:b]
        v_c = v[a:b]
        x592_c = x592[a:b]
        x629_c = x629[a:b]
        x628_c = x628[a:b]
        x611_c = x611[a:b]
        x608_c = x608[a:b]
        x613_c = x613[a:b]
        x29 = k_c @ S
        x61 = q_c @ S
        x107 = x106_c[:, :, None, None] * S
        x626 = torch.addcmul(v_c, x592_c[:, :, :, None], x29, value=-1)
        x630 = x629_c @ x626
        x632 = x628_c @ x630
        x634 = tiles.addcmul_(x611_c[:, :, :, None] * x61, x608_c[:, :, :, None], x632, 2)
        x636 = torch.add(x107, x613_c.mT @ x630, alpha=2)
        x634_all.append(x634)
        S = x636
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x634 = torch.cat(x634_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x634_all
    del x106, x592, x608, x611, x613, x628
    return (x634,), (S_end,), (S, x629) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
    del x10, x12
    x17 = torch.sigmoid(b_)
    x18 = k * k
    x19 = x18.sum(3)
    del x18
    x21 = x19 + 1e-06
    del x19
    x22 = torch.rsqrt(x21)
    del x21
    x43 = k @ k.mT
    x82 = x13 * tiles.LOG2E
    del x13
    x83 = torch.where(valid > 0, x82, 0)
    del x82
    x84 = tiles.prefix_sum(x83, 2)
    x85 = torch.exp2(x84)
    del x84
    x86 = tiles.segment_sum(x83)
    x87 = torch.exp2(x86)
    del x86
    x101 = tiles.suffix_sum(x83, 2, exclusive=True)
    x102 = torch.exp2(x101)
    del x101
    x105 = x83.sum(2)
    del x83
    x106 = torch.exp2(x105)
    del x105
    x587 = valid * x17
    x588 = x22 * x587
    del x587
    x589 = valid * x17
    del x17
    x590 = x22 * x589
    del x589
    x591 = x102 * x588
    del x102, x588
    x592 = x22 * x85
    del x85
    x605 = x22[:, :, :, None] * x43
    del x22, x43
    x607 = x590[:, :, None] * x605
    del x590, x605
    x613 = x591[:, :, :, None] * k
    del x591
    x624 = x87 * x607 * -2
    del x607, x87
    x629 = tiles.inverse(x624)
    del x624
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        x106_c = x106[a:b]
        v_c = v[a:b]
        x592_c = x592[a:b]
        x629_c = x629[a:b]
        x613_c = x613[a:b]
        x29 = k_c @ S
        x107 = x106_c[:, :, None, None] * S
        x626 = torch.addcmul(v_c, x592_c[:, :, :, None], x29, value=-1)
        x630 = x629_c @ x626
        x636 = torch.add(x107, x613_c.mT @ x630, alpha=2)
        S = x636
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x106, x592, x613
    return (), (S_end,), (S, x629) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x629) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None] * x12
    x17 = torch.sigmoid(b_)
    x18 = k * k
    x19 = x18.sum(3)
    del x18
    x21 = x19 + 1e-06
    del x19
    x22 = torch.rsqrt(x21)
    del x21
    x29 = k @ S
    x43 = k @ k.mT
    x53 = (K) ** -0.5
    x54 = q * q
    x55 = x54.sum(3)
    del x54
    x56 = x55 + 1e-06
    del x55
    x57 = torch.rsqrt(x56)
    del x56
    x61 = q @ S
    x63 = q @ k.mT
    x82 = x13 * tiles.LOG2E
    del x13
    x83 = torch.where(valid > 0, x82, 0)
    del x82
    x84 = tiles.prefix_sum(x83, 2)
    x85 = torch.exp2(x84)
    del x84
    x86 = tiles.segment_sum(x83)
    x87 = torch.exp2(x86)
    del x86
    x97 = x63 * x87
    x101 = tiles.suffix_sum(x83, 2, exclusive=True)
    x102 = torch.exp2(x101)
    del x101
    x105 = x83.sum(2)
    del x83
    x106 = torch.exp2(x105)
    del x105
    x135 = tiles.LN2
    x184 = x61 * do
    del x61
    x185 = x184.sum(3)
    del x184
    x186 = x85 * x185 * x53
    x238 = tiles.LOG2E
    x251 = do @ S.mT
    x312 = -x17 + 1
    x363 = torch.sigmoid(x11)
    del x11
    x587 = valid * x17
    x588 = x22 * x587
    x589 = valid * x17
    x590 = x22 * x589
    del x589
    x591 = x102 * x588
    x592 = x22 * x85
    x593 = x57 * x85
    x595 = valid * x22
    x596 = x22 * x22
    x597 = x22 * x596
    del x596
    x600 = x10 * x238
    del x10
    x601 = x53 * x135
    x602 = x57 * x57
    x603 = x602 * x57
    del x602
    x605 = x22[:, :, :, None] * x43
    x606 = x57[:, :, :, None] * x97
    x607 = x590[:, :, None] * x605
    del x605
    x608 = x57 * x53
    x610 = x588 * x53
    x611 = x593 * x53
    x614 = x606.mT @ do
    x617 = x610[:, :, :, None] * x614
    del x614
    x619 = x185 * x593 * x601
    del x185
    x621 = x593[:, :, :, None] * do
    del x593
    x622 = q.mT @ x621
    del x621
    x623 = x622 * x53
    del x622
    x626 = torch.addcmul(v, x592[:, :, :, None], x29, value=-1)
    x628 = x590[:, :, None] * x97
    del x97
    x630 = x629 @ x626
    del x626
    x632 = x628 @ x630
    del x628
    x637 = x592[:, :, :, None] * k
    x644 = do * x632
    del x632
    x645 = x644.sum(3)
    del x644
    x646 = do @ x630.mT
    x647 = x646 * x606
    del x606
    x648 = x647.sum(2)
    del x647
    x663 = tiles.product(x63, x646, x590[:, :, None], x608[:, :, :, None])
    del x63
    x672 = x87 * x646
    del x646
    x673 = x590[:, :, None] * x672
    x674 = x673 @ k
    del x673
    x675 = x57[:, :, :, None] * x672
    del x57, x672
    x676 = x675.mT @ q
    del x675
    x677 = x645 * x53
    del x645
    x678 = torch.add(x186, x677, alpha=2)
    del x186, x677
    x683 = x648 * x53
    del x648
    x684 = x595 * x683
    x688 = x587 * x683
    del x683
    x693 = x610[:, :, :, None] * x676
    del x610, x676
    x720 = x603 * x678
    del x603, x678
    x722 = tiles.addcmul_(x611[:, :, :, None] * x251, x608[:, :, :, None], x674, 2)
    x722 = tiles.addcmul_(x722, x720[:, :, :, None], q, -1)
    del x251, x608, x611, x674, x720
    dS_all, x650_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        k_c = k[a:b]
        x106_c = x106[a:b]
        x617_c = x617[a:b]
        x591_c = x591[a:b]
        x629_c = x629[a:b]
        x623_c = x623[a:b]
        x637_c = x637[a:b]
        x118 = k_c @ dS
        x131 = x106_c[:, :, None, None] * dS
        x618 = tiles.addcmul_(2 * x617_c, x591_c[:, :, :, None], x118, 2)
        x650 = x629_c.mT @ x618
        x709 = tiles.addmm_(x131 + x623_c, x637_c.mT, x650, -1)
        x650_all.append(x650)
        dS = x709
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x650 = torch.cat(x650_all[::-1])
    del dS_all
    del x650_all
    del x617, x623, x637
    x132 = S * dS
    x133 = x132.sum(2)
    del x132
    x134 = x133.sum(2)
    del x133
    x137 = x106 * x134 * x135
    del x106, x134
    x138 = x137[:, :, None].expand(-1, -1, C)
    del x137
    x638 = x630 @ dS.mT
    del dS
    x639 = k * x638
    x640 = x639.sum(3)
    del x639
    x641 = x640 * x591
    x642 = x641 * 2 * x135
    x643 = tiles.prefix_sum(x642, 2, exclusive=True)
    del x642
    x652 = x650 @ x630.mT
    del x630
    x653 = x652.tril(-1)
    del x652
    x654 = x29 * x650
    del x29
    x655 = x654.sum(3)
    del x654
    x656 = x87 * x653
    x657 = x43 * x656
    del x43
    x658 = x590[:, :, None] * x657
    x659 = x658.sum(3)
    del x658
    x660 = x22[:, :, :, None] * x657
    del x657
    x661 = x660.sum(2)
    del x660
    x665 = tiles.addcmul_(2 * x663, x653, x607, -2)
    del x607, x653, x663
    x666 = x87 * x665 * x135
    del x665, x87
    x667 = tiles.segment_sum_grad(x666)
    del x666
    x668 = x655 * x592 * x135
    x669 = x619 - x668
    del x619, x668
    x670 = tiles.suffix_sum(x669, 2)
    del x669
    x671 = x138 + x643 + x667 + x670
    del x138, x643, x667, x670
    x679 = x590[:, :, None] * x656
    del x590
    x680 = x679 @ k
    del x679
    x681 = x22[:, :, :, None] * x656
    del x656
    x682 = x681.mT @ k
    del x681
    x686 = tiles.addcmul_(2 * x684, x661, x595, -2)
    del x595, x684
    x687 = tiles.product(x17, x312, x686)
    del x17, x686
    x691 = tiles.addcmul_(tiles.addcmul_(2 * x688, x85, x655, -1), x661, x587, -2)
    del x655, x661, x688, x85
    x696 = x650 @ S.mT
    x698 = tiles.product(x102, x640, x587)
    del x102, x587, x640
    x699 = torch.add(-2 * x659, x698, alpha=2)
    del x659, x698
    x701 = valid * x671
    del x671
    x702 = x12 * x701
    del x12
    x703 = x702.sum(2)
    del x702
    x704 = x363 * x701
    del x363, x701
    x705 = (x600 * -1)[:, :, None] * x704
    x706 = x704.sum(2)
    del x704
    x707 = x706 * x600 * -1
    del x706
    x708 = x703 * x600 * -1
    del x600, x703
    x711 = torch.addcmul(x687, x312, x641, value=2)
    del x312, x641, x687
    x716 = tiles.addcmul_(x699 * -1 * x597, x691, x597, -1)
    del x597, x691, x699
    x718 = tiles.addcmul_(2 * x693, x716[:, :, :, None], k)
    x718 = tiles.addcmul_(x718, x588[:, :, :, None], x682, -2)
    x718 = tiles.addcmul_(x718, x591[:, :, :, None], x638, 2)
    x718 = tiles.addcmul_(x718, x22[:, :, :, None], x680, -2)
    x718 = tiles.addcmul_(x718, x592[:, :, :, None], x696, -1)
    del x22, x588, x591, x592, x638, x680, x682, x693, x696, x716
    return (x722, x718, x650, x705, x711, x708, x707), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[2]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x15 = k * k
    x16 = x15.sum(2)
    del x15
    x18 = x16 + 1e-06
    del x16
    x19 = torch.rsqrt(x18)
    del x18
    x26 = torch.sigmoid(b_)
    x32 = (K) ** -0.5
    x33 = q * q
    x34 = x33.sum(2)
    del x33
    x35 = x34 + 1e-06
    del x34
    x36 = torch.rsqrt(x35)
    del x35
    x139 = x19 * x26
    del x26
    x140 = x36 * x32
    del x36
    x142 = x9 * x11
    del x11, x9
    x144 = x140[:, :, None] * q
    del x140
    x145 = x142 * -1
    del x142
    x146 = torch.exp(x145)
    del x145
    x148 = x146 * x19
    del x19
    x149 = (x148 * -1)[:, :, None] * k
    del x148
    S_all, x154_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x146_c = x146[a:b]
        x149_c = x149[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x139_c = x139[a:b]
        x144_c = x144[a:b]
        x147 = x146_c[:, :, None, None] * S
        x150 = (x149_c[..., None, :] @ S).squeeze(-2)
        x151 = v_c + x150
        x152 = (x139_c[:, :, None] * k_c)[:, :, :, None] * x151[:, :, None]
        x153 = torch.add(x147, x152, alpha=2)
        x154 = (x144_c[..., None, :] @ x153).squeeze(-2)
        x154_all.append(x154)
        S = x153
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x154 = torch.cat(x154_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x154_all
    del x139, x144, x146, x149
    return (x154,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x15 = k * k
    x16 = x15.sum(2)
    del x15
    x18 = x16 + 1e-06
    del x16
    x19 = torch.rsqrt(x18)
    del x18
    x26 = torch.sigmoid(b_)
    x139 = x19 * x26
    del x26
    x142 = x9 * x11
    del x11, x9
    x145 = x142 * -1
    del x142
    x146 = torch.exp(x145)
    del x145
    x148 = x146 * x19
    del x19
    x149 = (x148 * -1)[:, :, None] * k
    del x148
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x146_c = x146[a:b]
        x149_c = x149[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x139_c = x139[a:b]
        x147 = x146_c[:, :, None, None] * S
        x150 = (x149_c[..., None, :] @ S).squeeze(-2)
        x151 = v_c + x150
        x152 = (x139_c[:, :, None] * k_c)[:, :, :, None] * x151[:, :, None]
        x153 = torch.add(x147, x152, alpha=2)
        S = x153
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x139, x146, x149
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
    x15 = k * k
    x16 = x15.sum(2)
    del x15
    x18 = x16 + 1e-06
    del x16
    x19 = torch.rsqrt(x18)
    del x18
    x26 = torch.sigmoid(b_)
    x32 = (K) ** -0.5
    x33 = q * q
    x34 = x33.sum(2)
    del x33
    x35 = x34 + 1e-06
    del x34
    x36 = torch.rsqrt(x35)
    del x35
    x94 = -x26 + 1
    x127 = torch.sigmoid(x10)
    del x10
    x139 = x19 * x26
    x140 = x36 * x32
    x142 = x9 * x11
    del x11
    x144 = x140[:, :, None] * q
    x145 = x142 * -1
    x146 = torch.exp(x145)
    del x145
    x147 = x146[:, :, None, None] * S
    x148 = x146 * x19
    x149 = (x148 * -1)[:, :, None] * k
    x150 = (x149[..., None, :] @ S).squeeze(-2)
    del x149
    x151 = v + x150
    del x150
    x152 = (x139[:, :, None] * k)[:, :, :, None] * x151[:, :, None]
    x153 = torch.add(x147, x152, alpha=2)
    del x147, x152
    x155 = (do[..., None, :] @ x153.mT).squeeze(-2)
    del x153
    x156 = do[:, :, None] * x144[:, :, :, None]
    del x144
    x157 = x140[:, :, None] * x155
    x158 = q * x155
    del x155
    x159 = x158.sum(2)
    del x158
    x160 = tiles.product(x36, x36, x159, x140, (-0.5))
    del x140, x159, x36
    x161 = x160[:, :, None] * q
    del x160
    x190 = x139 * x148
    x195 = torch.add(x157, x161, alpha=2)
    del x157, x161
    x162_all, x163_all, x168_all = [], [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x156_c = x156[a:b]
        k_c = k[a:b]
        x146_c = x146[a:b]
        x190_c = x190[a:b]
        x162 = dS + x156_c
        x163 = torch.add(2 * dS, x156_c, alpha=2)
        x167 = k_c[:, :, :, None] * x163
        x168 = x167.sum(2)
        x181 = x146_c[:, :, None, None] * x162
        x191 = (x190_c[:, :, None] * k_c)[:, :, :, None] * x168[:, :, None]
        x192 = x181 - x191
        x162_all.append(x162)
        x163_all.append(x163)
        x168_all.append(x168)
        dS = x192
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x162 = torch.cat(x162_all[::-1])
    x163 = torch.cat(x163_all[::-1])
    x168 = torch.cat(x168_all[::-1])
    del x162_all
    del x163_all
    del x168_all
    del x156, x190
    x164 = x151[:, :, None] * x163
    del x163
    x165 = x164.sum(3)
    del x164
    x166 = x139[:, :, None] * x165
    del x165
    x169 = x151 * x168
    del x151
    x170 = x169.sum(2)
    del x169
    x171 = x26 * x170
    del x26
    x172 = x139[:, :, None] * x168
    del x168
    x173 = tiles.product(x170, x94, x139)
    del x139, x170, x94
    x174 = (x172[..., None, :] @ S.mT).squeeze(-2)
    x175 = k * x174
    x176 = x175.sum(2)
    del x175
    x177 = x146 * x176
    x178 = x171 - x177
    del x171, x177
    x179 = tiles.product(x19, x19, x19, x178, (-0.5))
    del x178
    x180 = x179[:, :, None] * k
    del x179
    x182 = S * x162
    del x162
    x183 = x182.sum(2)
    del x182
    x184 = x183.sum(2)
    del x183
    x185 = x19 * x176
    del x176, x19
    x186 = x184 - x185
    del x184, x185
    x187 = x146 * x186
    del x146, x186
    x188 = tiles.product(x9, x187, x127, (-1))
    del x127, x9
    x189 = x187 * x142 * -1
    del x142, x187
    x193 = x148[:, :, None] * x174
    del x148, x174
    x194 = torch.add(x166, x180, alpha=2) - x193
    del x166, x180, x193
    return (x195, x194, x172, x188, x173, x189, x188), (dS_end,)
