"""comba: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + beta * u @ (v - sigmoid(s) * (S[t-1].T @ u)).T
o[t] = -K**-0.5 * (S[t].T @ (u * d - unit(q)))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = beta * u,  f = -u * sigmoid(s)
  q_ = -K**-0.5 * (u * d - unit(q))
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f[i]^T (G[i-1]/G[j]) w[j],  j < i
  U = (I - P)^-1 (v + (f * G[i-1]) S_in)
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T U
"""

import torch

from rnnc.ops import tiles

NAME = "comba"
SPEC_HASH = "76e18e4efac820ea31c7f9753f42bfb0a7d8d90cb3398e09662ae8617e71ff73"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("s", ()), ("d", ()))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    K = q.shape[3]
    x12 = torch.exp(A_log)
    x13 = a_ + dt_bias[:, :, None]
    x14 = tiles.softplus(x13)
    del x13
    x15 = (x12 * -1)[:, :, None] * x14
    del x12, x14
    x18 = torch.sigmoid(b_)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x27 = torch.sigmoid(s)
    x45 = k @ k.mT
    x55 = (K) ** -0.5
    x57 = q * q
    x58 = x57.sum(3)
    del x57
    x59 = x58 + 1e-06
    del x58
    x60 = torch.rsqrt(x59)
    del x59
    x88 = x15 * tiles.LOG2E
    del x15
    x89 = torch.where(valid > 0, x88, 0)
    del x88
    x90 = tiles.prefix_sum(x89, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x92 = tiles.segment_sum(x89, exclusive=True)
    x93 = torch.exp2(x92)
    del x92
    x100 = tiles.prefix_sum(x89, 2)
    x101 = torch.exp2(x100)
    del x100
    x102 = tiles.segment_sum(x89)
    x103 = torch.exp2(x102)
    del x102
    x111 = tiles.suffix_sum(x89, 2, exclusive=True)
    x112 = torch.exp2(x111)
    del x111
    x115 = x89.sum(2)
    del x89
    x116 = torch.exp2(x115)
    del x115
    x653 = valid * x18
    x654 = x23 * x653
    del x653
    x655 = valid * x18
    del x18
    x656 = x23 * x655
    del x655
    x657 = x23 * x91
    del x91
    x658 = x112 * x654
    del x112, x654
    x672 = d[:, :, None] * x23
    x673 = x27[:, :, None] * x23
    del x23
    x675 = x27[:, :, None] * x657
    del x27, x657
    x676 = x101 * x55
    del x101
    x680 = tiles.addcmul_(x672[:, :, :, None] * k, x60[:, :, :, None], q, -1)
    del x60, x672
    x682 = x680 @ k.mT
    x684 = x658[:, :, :, None] * k
    del x658
    x688 = x682 * x103
    del x103, x682
    x698 = tiles.product(x45, x93, (x656 * -1)[:, :, None], x673[:, :, :, None])
    del x45, x673, x93
    x702 = x656[:, :, None] * x688
    del x656, x688
    x703 = tiles.inverse(x698)
    del x698
    S_all, x708_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        x116_c = x116[a:b]
        x680_c = x680[a:b]
        v_c = v[a:b]
        x675_c = x675[a:b]
        x703_c = x703[a:b]
        x702_c = x702[a:b]
        x676_c = x676[a:b]
        x684_c = x684[a:b]
        x31 = k_c @ S
        x117 = x116_c[:, :, None, None] * S
        x681 = x680_c @ S
        x700 = torch.addcmul(v_c, x675_c[:, :, :, None], x31, value=-1)
        x704 = x703_c @ x700
        x706 = x702_c @ x704
        x707 = x706 * x55
        x708 = tiles.addcmul_(-x707, x676_c[:, :, :, None], x681, -1)
        x710 = x117 + x684_c.mT @ x704
        x708_all.append(x708)
        S = x710
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x708 = torch.cat(x708_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x708_all
    del x116, x675, x676, x680, x684, x702
    return (x708,), (S_end,), (S, x703) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias, s, _) = args
    x12 = torch.exp(A_log)
    x13 = a_ + dt_bias[:, :, None]
    x14 = tiles.softplus(x13)
    del x13
    x15 = (x12 * -1)[:, :, None] * x14
    del x12, x14
    x18 = torch.sigmoid(b_)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x27 = torch.sigmoid(s)
    x45 = k @ k.mT
    x88 = x15 * tiles.LOG2E
    del x15
    x89 = torch.where(valid > 0, x88, 0)
    del x88
    x90 = tiles.prefix_sum(x89, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x92 = tiles.segment_sum(x89, exclusive=True)
    x93 = torch.exp2(x92)
    del x92
    x111 = tiles.suffix_sum(x89, 2, exclusive=True)
    x112 = torch.exp2(x111)
    del x111
    x115 = x89.sum(2)
    del x89
    x116 = torch.exp2(x115)
    del x115
    x653 = valid * x18
    x654 = x23 * x653
    del x653
    x655 = valid * x18
    del x18
    x656 = x23 * x655
    del x655
    x657 = x23 * x91
    del x91
    x658 = x112 * x654
    del x112, x654
    x673 = x27[:, :, None] * x23
    del x23
    x675 = x27[:, :, None] * x657
    del x27, x657
    x684 = x658[:, :, :, None] * k
    del x658
    x698 = tiles.product(x45, x93, (x656 * -1)[:, :, None], x673[:, :, :, None])
    del x45, x656, x673, x93
    x703 = tiles.inverse(x698)
    del x698
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        x116_c = x116[a:b]
        v_c = v[a:b]
        x675_c = x675[a:b]
        x703_c = x703[a:b]
        x684_c = x684[a:b]
        x31 = k_c @ S
        x117 = x116_c[:, :, None, None] * S
        x700 = torch.addcmul(v_c, x675_c[:, :, :, None], x31, value=-1)
        x704 = x703_c @ x700
        x710 = x117 + x684_c.mT @ x704
        S = x710
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x116, x675, x684
    return (), (S_end,), (S, x703) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x703) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    x12 = torch.exp(A_log)
    x13 = a_ + dt_bias[:, :, None]
    x14 = tiles.softplus(x13)
    x15 = (x12 * -1)[:, :, None] * x14
    x18 = torch.sigmoid(b_)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x27 = torch.sigmoid(s)
    x31 = k @ S
    x45 = k @ k.mT
    x55 = (K) ** -0.5
    x57 = q * q
    x58 = x57.sum(3)
    del x57
    x59 = x58 + 1e-06
    del x58
    x60 = torch.rsqrt(x59)
    del x59
    x88 = x15 * tiles.LOG2E
    del x15
    x89 = torch.where(valid > 0, x88, 0)
    del x88
    x90 = tiles.prefix_sum(x89, 2, exclusive=True)
    x91 = torch.exp2(x90)
    del x90
    x92 = tiles.segment_sum(x89, exclusive=True)
    x93 = torch.exp2(x92)
    del x92
    x100 = tiles.prefix_sum(x89, 2)
    x101 = torch.exp2(x100)
    del x100
    x102 = tiles.segment_sum(x89)
    x103 = torch.exp2(x102)
    del x102
    x111 = tiles.suffix_sum(x89, 2, exclusive=True)
    x112 = torch.exp2(x111)
    del x111
    x115 = x89.sum(2)
    del x89
    x116 = torch.exp2(x115)
    del x115
    x143 = tiles.LN2
    x256 = tiles.LOG2E
    x269 = do @ S.mT
    x272 = x101[:, :, :, None] * do
    x343 = -x18 + 1
    x375 = -x27 + 1
    x398 = torch.sigmoid(x13)
    del x13
    x653 = valid * x18
    x654 = x23 * x653
    x655 = valid * x18
    x656 = x23 * x655
    del x655
    x657 = x23 * x91
    x658 = x112 * x654
    x660 = valid * x23
    x661 = x23 * x23
    x662 = x23 * x661
    del x661
    x665 = x12 * x256
    del x12
    x666 = x27 * x143
    x667 = x55 * x143
    x668 = x60 * x60
    x669 = x668 * x60
    del x668
    x672 = d[:, :, None] * x23
    x673 = x27[:, :, None] * x23
    x675 = x27[:, :, None] * x657
    x676 = x101 * x55
    x678 = x654 * x55
    x680 = tiles.addcmul_(x672[:, :, :, None] * k, x60[:, :, :, None], q, -1)
    x681 = x680 @ S
    x682 = x680 @ k.mT
    x686 = x681 * do
    del x681
    x687 = x686.sum(3)
    del x686
    x688 = x682 * x103
    del x682
    x689 = x688.mT @ do
    x691 = x101 * x687 * -1 * x667
    del x101, x687
    x692 = tiles.suffix_sum(x691, 2)
    del x691
    x693 = x678[:, :, :, None] * x689
    del x689
    x695 = x680.mT @ x272
    del x272
    x696 = x676[:, :, :, None] * x269
    del x269, x676
    x697 = x695 * x55
    del x695
    x700 = torch.addcmul(v, x675[:, :, :, None], x31, value=-1)
    x704 = x703 @ x700
    del x700
    x711 = x657[:, :, :, None] * k
    x720 = do @ x704.mT
    x721 = x688 * x720
    del x688
    x722 = x721.sum(2)
    x724 = (x656 * -1 * x667)[:, :, None] * x721
    del x721
    x725 = tiles.segment_sum_grad(x724)
    del x724
    x751 = x103 * x720
    del x103, x720
    x752 = x656[:, :, None] * x751
    x753 = x752 @ k
    del x752
    x754 = x751.mT @ x680
    del x680, x751
    x755 = x753 * x55
    del x753
    x756 = -x696 - x755
    x757 = x696 + x755
    del x696, x755
    x759 = q * x757
    x760 = x759.sum(3)
    del x759
    x761 = x672[:, :, :, None] * x756
    del x672
    x762 = k * x756
    del x756
    x763 = x23[:, :, :, None] * x762
    x764 = x763.sum(2)
    del x763
    x765 = x764.sum(2)
    del x764
    x766 = x762.sum(3)
    del x762
    x767 = d[:, :, None] * x766
    del x766
    x772 = x722 * x55
    del x722
    x773 = x660 * x772
    x778 = x653 * x772
    del x772
    x783 = x678[:, :, :, None] * x754
    del x678, x754
    x811 = x669 * x760
    del x669, x760
    x813 = tiles.addcmul_(x60[:, :, :, None] * x757, x811[:, :, :, None], q, -1)
    del x60, x757, x811
    dS_all, x726_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        k_c = k[a:b]
        x116_c = x116[a:b]
        x693_c = x693[a:b]
        x658_c = x658[a:b]
        x703_c = x703[a:b]
        x711_c = x711[a:b]
        x697_c = x697[a:b]
        x126 = k_c @ dS
        x139 = x116_c[:, :, None, None] * dS
        x694 = tiles.addcmul_(-x693_c, x658_c[:, :, :, None], x126)
        x726 = x703_c.mT @ x694
        x787 = x711_c.mT @ x726
        x802 = x27[:, :, None, None] * x787
        x803 = x139 - x697_c - x802
        x726_all.append(x726)
        dS = x803
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x726 = torch.cat(x726_all[::-1])
    del dS_all
    del x726_all
    del x693, x697, x711
    x140 = S * dS
    x141 = x140.sum(2)
    del x140
    x142 = x141.sum(2)
    del x141
    x145 = x116 * x142 * x143
    del x116, x142
    x146 = x145[:, :, None].expand(-1, -1, C)
    del x145
    x712 = x704 @ dS.mT
    del dS
    x714 = k * x712
    x715 = x714.sum(3)
    del x714
    x716 = tiles.product(x112, x715, x653)
    del x112
    x717 = x715 * x658
    del x715
    x718 = x717 * x143
    x719 = tiles.prefix_sum(x718, 2, exclusive=True)
    del x718
    x728 = x726 @ x704.mT
    del x704
    x729 = x728.tril(-1)
    del x728
    x730 = x31 * x726
    del x31
    x731 = x657[:, :, :, None] * x730
    x733 = x731.sum(2)
    del x731
    x734 = x733.sum(2)
    del x733
    x735 = x730.sum(3)
    del x730
    x736 = tiles.product(x735, x657, (x666 * -1)[:, :, None])
    del x657
    x737 = x93 * x729
    del x729, x93
    x738 = x45 * x737
    del x45
    x739 = x656[:, :, None] * x738
    x740 = x739.sum(3)
    del x739
    x741 = x23[:, :, :, None] * x738
    del x738
    x742 = x741.sum(2)
    x744 = x742 * x654
    x746 = x744.sum(2)
    del x744
    x747 = tiles.product(x741, (x666 * -1)[:, :, None, None], x656[:, :, None])
    del x666, x741
    x748 = tiles.segment_sum_grad(x747, exclusive=True)
    del x747
    x749 = tiles.suffix_sum(x736, 2, exclusive=True)
    del x736
    x750 = x146 + x692 + x719 + x725 + x748 + x749
    del x146, x692, x719, x725, x748, x749
    x768 = x656[:, :, None] * x737
    del x656
    x769 = x768 @ k
    del x768
    x770 = x23[:, :, :, None] * x737
    del x23, x737
    x771 = x770.mT @ k
    del x770
    x774 = x27[:, :, None] * x742
    del x742
    x776 = tiles.addcmul_(-x773, x660, x774, -1)
    del x660, x773
    x777 = tiles.product(x18, x343, x776)
    del x18, x776
    x779 = tiles.product(x91, x735, x27[:, :, None])
    del x735, x91
    x781 = tiles.addcmul_(-x778 - x779, x653, x774, -1)
    del x653, x774, x778, x779
    x785 = tiles.product(x771, x27[:, :, None, None], x654[:, :, :, None])
    del x654, x771
    x786 = x726 @ S.mT
    x788 = -x734 - x746
    del x734, x746
    x789 = tiles.product(x27, x375, x788)
    del x375, x788
    x790 = x27[:, :, None] * x740
    del x27, x740
    x791 = x716 + x767 - x790
    del x716, x767, x790
    x794 = valid * x750
    del x750
    x795 = x14 * x794
    del x14
    x796 = x795.sum(2)
    del x795
    x797 = x398 * x794
    del x398, x794
    x798 = (x665 * -1)[:, :, None] * x797
    x799 = x797.sum(2)
    del x797
    x800 = x799 * x665 * -1
    del x799
    x801 = x796 * x665 * -1
    del x665, x796
    x804 = torch.addcmul(x777, x343, x717)
    del x343, x717, x777
    x808 = tiles.addcmul_(x791 * -1 * x662, x781, x662, -1)
    del x662, x781, x791
    x810 = tiles.addcmul_(x761 - x783 - x785, x658[:, :, :, None], x712)
    x810 = tiles.addcmul_(x810, x808[:, :, :, None], k)
    x810 = tiles.addcmul_(x810, x673[:, :, :, None], x769, -1)
    x810 = tiles.addcmul_(x810, x675[:, :, :, None], x786, -1)
    del x658, x673, x675, x712, x761, x769, x783, x785, x786, x808
    return (x813, x810, x726, x798, x804, x801, x800, x789, x765), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    K = q.shape[2]
    x11 = torch.exp(A_log)
    x12 = a_ + dt_bias
    x13 = tiles.softplus(x12)
    del x12
    x17 = torch.sigmoid(s)
    x18 = k * k
    x19 = x18.sum(2)
    del x18
    x21 = x19 + 1e-06
    del x19
    x22 = torch.rsqrt(x21)
    del x21
    x28 = torch.sigmoid(b_)
    x33 = (K) ** -0.5
    x35 = q * q
    x36 = x35.sum(2)
    del x35
    x37 = x36 + 1e-06
    del x36
    x38 = torch.rsqrt(x37)
    del x37
    x39 = x38[:, :, None] * q
    del x38
    x160 = x22 * x28
    del x28
    x161 = x17 * x22
    del x17
    x162 = d * x22
    del x22
    x163 = x11 * x13
    del x11, x13
    x169 = x163 * -1
    del x163
    x170 = torch.exp(x169)
    del x169
    x172 = (x161 * -1)[:, :, None] * k
    del x161
    x177 = x162[:, :, None] * k
    del x162
    x178 = x177 - x39
    del x177, x39
    x179 = x178 * x33
    del x178
    x180 = x179 * -1
    del x179
    S_all, x181_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x170_c = x170[a:b]
        x172_c = x172[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x160_c = x160[a:b]
        x180_c = x180[a:b]
        x171 = x170_c[:, :, None, None] * S
        x173 = (x172_c[..., None, :] @ S).squeeze(-2)
        x174 = v_c + x173
        x175 = (x160_c[:, :, None] * k_c)[:, :, :, None] * x174[:, :, None]
        x176 = x171 + x175
        x181 = (x180_c[..., None, :] @ x176).squeeze(-2)
        x181_all.append(x181)
        S = x176
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x181 = torch.cat(x181_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x181_all
    del x160, x170, x172, x180
    return (x181,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias, s, _) = args
    x11 = torch.exp(A_log)
    x12 = a_ + dt_bias
    x13 = tiles.softplus(x12)
    del x12
    x17 = torch.sigmoid(s)
    x18 = k * k
    x19 = x18.sum(2)
    del x18
    x21 = x19 + 1e-06
    del x19
    x22 = torch.rsqrt(x21)
    del x21
    x28 = torch.sigmoid(b_)
    x160 = x22 * x28
    del x28
    x161 = x17 * x22
    del x17, x22
    x163 = x11 * x13
    del x11, x13
    x169 = x163 * -1
    del x163
    x170 = torch.exp(x169)
    del x169
    x172 = (x161 * -1)[:, :, None] * k
    del x161
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x170_c = x170[a:b]
        x172_c = x172[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x160_c = x160[a:b]
        x171 = x170_c[:, :, None, None] * S
        x173 = (x172_c[..., None, :] @ S).squeeze(-2)
        x174 = v_c + x173
        x175 = (x160_c[:, :, None] * k_c)[:, :, :, None] * x174[:, :, None]
        x176 = x171 + x175
        S = x176
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x160, x170, x172
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    x11 = torch.exp(A_log)
    x12 = a_ + dt_bias
    x13 = tiles.softplus(x12)
    x17 = torch.sigmoid(s)
    x18 = k * k
    x19 = x18.sum(2)
    del x18
    x21 = x19 + 1e-06
    del x19
    x22 = torch.rsqrt(x21)
    del x21
    x28 = torch.sigmoid(b_)
    x33 = (K) ** -0.5
    x35 = q * q
    x36 = x35.sum(2)
    del x35
    x37 = x36 + 1e-06
    del x36
    x38 = torch.rsqrt(x37)
    del x37
    x39 = x38[:, :, None] * q
    x109 = -x28 + 1
    x134 = -x17 + 1
    x145 = torch.sigmoid(x12)
    del x12
    x160 = x22 * x28
    x161 = x17 * x22
    x162 = d * x22
    x163 = x11 * x13
    del x13
    x164 = x38 * x33
    x166 = x160 * x161
    x167 = x162 * x33
    x169 = x163 * -1
    x170 = torch.exp(x169)
    del x169
    x171 = x170[:, :, None, None] * S
    x172 = (x161 * -1)[:, :, None] * k
    x173 = (x172[..., None, :] @ S).squeeze(-2)
    del x172
    x174 = v + x173
    del x173
    x175 = (x160[:, :, None] * k)[:, :, :, None] * x174[:, :, None]
    x176 = x171 + x175
    del x171, x175
    x177 = x162[:, :, None] * k
    del x162
    x178 = x177 - x39
    del x177, x39
    x179 = x178 * x33
    del x178
    x182 = (do[..., None, :] @ x176.mT).squeeze(-2)
    del x176
    x183 = x164[:, :, None] * x182
    x184 = q * x182
    x185 = x184.sum(2)
    del x184
    x186 = tiles.product(x38, x38, x185, x164, (-0.5))
    del x164, x185, x38
    x187 = x186[:, :, None] * q
    del x186
    x188 = k * x182
    x189 = x188.sum(2)
    del x188
    x190 = x189 * x33
    del x189
    x191 = x22 * x190 * -1
    x192 = do[:, :, None] * x179[:, :, :, None]
    del x179
    x207 = d * x190
    del x190
    x222 = x167[:, :, None] * x182
    del x167, x182
    x225 = torch.add(x183, x187, alpha=2)
    del x183, x187
    x193_all, x198_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x192_c = x192[a:b]
        k_c = k[a:b]
        x170_c = x170[a:b]
        x166_c = x166[a:b]
        x193 = dS - x192_c
        x197 = k_c[:, :, :, None] * x193
        x198 = x197.sum(2)
        x213 = x170_c[:, :, None, None] * x193
        x220 = (x166_c[:, :, None] * k_c)[:, :, :, None] * x198[:, :, None]
        x221 = x213 - x220
        x193_all.append(x193)
        x198_all.append(x198)
        dS = x221
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x193 = torch.cat(x193_all[::-1])
    x198 = torch.cat(x198_all[::-1])
    del x193_all
    del x198_all
    del x166, x192
    x194 = x174[:, :, None] * x193
    x195 = x194.sum(3)
    del x194
    x196 = x160[:, :, None] * x195
    del x195
    x199 = x174 * x198
    del x174
    x200 = x199.sum(2)
    del x199
    x201 = x28 * x200
    del x28
    x202 = x160[:, :, None] * x198
    del x198
    x203 = tiles.product(x200, x109, x160)
    del x109, x160, x200
    x204 = (x202[..., None, :] @ S.mT).squeeze(-2)
    x205 = k * x204
    x206 = x205.sum(2)
    del x205
    x208 = x17 * x206
    del x17
    x209 = x201 - x207 - x208
    del x201, x207, x208
    x210 = tiles.product(x22, x22, x22, x209, (-0.5))
    del x209, x22
    x211 = x210[:, :, None] * k
    del x210
    x212 = tiles.product(x206, x134, x161, (-1))
    del x134, x206
    x214 = S * x193
    del x193
    x215 = x214.sum(2)
    del x214
    x216 = x215.sum(2)
    del x215
    x217 = x170 * x216
    del x170, x216
    x218 = tiles.product(x11, x217, x145, (-1))
    del x11, x145
    x219 = x217 * x163 * -1
    del x163, x217
    x223 = x161[:, :, None] * x204
    del x161, x204
    x224 = torch.add(x196, x211, alpha=2) - x222 - x223
    del x196, x211, x222, x223
    return (x225, x224, x202, x218, x203, x219, x218, x212, x191), (dS_end,)
