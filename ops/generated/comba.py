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

from rnnc.ops import scan, tiles

NAME = "comba"
SPEC_HASH = "76e18e4efac820ea31c7f9753f42bfb0a7d8d90cb3398e09662ae8617e71ff73"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("s", ()), ("d", ()))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    K = q.shape[3]
    H = h0[0].shape[1]
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
    x814 = x676[:, :, :, None] * x680
    del x676, x680
    x816 = x675[:, :, :, None] * k
    del x675
    S_rows = scan.Rows(steps, H)
    x820_rows = scan.Rows(steps, H)
    x824_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x816_c,
        x703_c,
        x814_c,
        x702_c,
        x116_c,
        x684_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x816,
            x703,
            x814,
            x702,
            x116[:, :, None, None],
            x684.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x818 = torch.baddbmm(v_c, x816_c, S, alpha=-1)
        x820 = torch.bmm(x703_c, x818, out=x820_rows.room(n))
        x824 = -1 * torch.bmm(x814_c, S, out=x824_rows.room(n))
        x824 = scan.addmm(x824, x702_c, x820, -1 * x55)
        x826 = scan.addmm(scan.scale(S, x116_c, own), x684_c, x820)
        if keep:
            x820_rows.put(x820)
        x824_rows.put(x824)
        S = x826
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x824 = x824_rows.joined()
    if keep:
        S = S_rows.joined()
        x820 = x820_rows.joined()
    del S_rows
    del x820_rows
    del x824_rows
    del x116, x684, x702, x814, x816
    return (x824,), (S_end,), (S, x703, x820) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias, s, _) = args
    H = h0[0].shape[1]
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
    x816 = x675[:, :, :, None] * k
    del x675
    S_rows = scan.Rows(steps, H)
    x820_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x816_c,
        x703_c,
        x116_c,
        x684_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x816,
            x703,
            x116[:, :, None, None],
            x684.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x818 = torch.baddbmm(v_c, x816_c, S, alpha=-1)
        x820 = torch.bmm(x703_c, x818, out=x820_rows.room(n))
        x826 = scan.addmm(scan.scale(S, x116_c, own), x684_c, x820)
        if keep:
            x820_rows.put(x820)
        S = x826
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x820 = x820_rows.joined()
    del S_rows
    del x820_rows
    del x116, x684, x816
    return (), (S_end,), (S, x703, x820) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias, s, d) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x703, x704) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
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
    x682 = x680 @ k.mT
    x688 = x682 * x103
    del x682
    x689 = x688.mT @ do
    x693 = x678[:, :, :, None] * x689
    del x689
    x696 = x676[:, :, :, None] * x269
    del x676
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
    del x751
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
    x827 = x680 * x269
    del x269
    x828 = x827.sum(3)
    del x827
    x829 = x101 * x828 * -1 * x667
    del x101, x828
    x830 = tiles.suffix_sum(x829, 2)
    del x829
    x840 = x658[:, :, :, None] * k
    x887 = x27[:, :, None, None] * x711
    del x711
    x141_rows = scan.Rows(steps, H, True)
    x712_rows = scan.Rows(steps, H, True)
    x843_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x840_c,
        x693_c,
        x703_c,
        S_c,
        x704_c,
        x116_c,
        x680_c,
        x272_c,
        x887_c,
    ) in scan.each(
        steps,
        H,
        (
            x840,
            x693,
            x703.mT,
            S,
            x704,
            x116[:, :, None, None],
            x680.mT,
            x272,
            x887.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x842 = torch.baddbmm(x693_c, x840_c, dS, beta=-1)
        x843 = torch.bmm(x703_c, x842, out=x843_rows.room(n))
        x140 = S_c * dS
        x141 = x140.sum(1)
        x712 = torch.bmm(x704_c, dS.mT, out=x712_rows.room(n))
        x889 = scan.addmm(scan.scale(dS, x116_c, own), x680_c, x272_c, -1 * x55)
        x889 = scan.addmm(x889, x887_c, x843, -1)
        x141_rows.put(x141)
        x712_rows.put(x712)
        x843_rows.put(x843)
        dS = x889
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x141 = x141_rows.joined()
    x712 = x712_rows.joined()
    x843 = x843_rows.joined()
    del x141_rows
    del x712_rows
    del x843_rows
    del x272, x680, x693, x840, x887
    x142 = x141.sum(2)
    del x141
    x145 = x116 * x142 * x143
    del x116, x142
    x146 = x145[:, :, None].expand(-1, -1, C)
    del x145
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
    x845 = x843 @ x704.mT
    x846 = x845.tril(-1)
    del x845
    x847 = x31 * x843
    del x31
    x848 = x657[:, :, :, None] * x847
    x850 = x848.sum(2)
    del x848
    x851 = x850.sum(2)
    del x850
    x852 = x847.sum(3)
    del x847
    x853 = tiles.product(x852, x657, (x666 * -1)[:, :, None])
    del x657
    x854 = x93 * x846
    del x846, x93
    x855 = x45 * x854
    del x45
    x856 = x656[:, :, None] * x855
    x857 = x856.sum(3)
    del x856
    x858 = x23[:, :, :, None] * x855
    del x855
    x859 = x858.sum(2)
    x861 = x859 * x654
    x863 = x861.sum(2)
    del x861
    x864 = tiles.product(x858, (x666 * -1)[:, :, None, None], x656[:, :, None])
    del x666, x858
    x865 = tiles.segment_sum_grad(x864, exclusive=True)
    del x864
    x866 = tiles.suffix_sum(x853, 2, exclusive=True)
    del x853
    x867 = x656[:, :, None] * x854
    del x656
    x868 = x867 @ k
    del x867
    x869 = x23[:, :, :, None] * x854
    del x23, x854
    x870 = x869.mT @ k
    del x869
    x871 = x27[:, :, None] * x859
    del x859
    x873 = tiles.addcmul_(-x773, x660, x871, -1)
    del x660, x773
    x874 = tiles.product(x18, x343, x873)
    del x18, x873
    x875 = tiles.product(x91, x852, x27[:, :, None])
    del x852, x91
    x877 = tiles.addcmul_(-x778 - x875, x653, x871, -1)
    del x653, x778, x871, x875
    x879 = tiles.product(x870, x27[:, :, None, None], x654[:, :, :, None])
    del x654, x870
    x880 = x843 @ S.mT
    x882 = -x851 - x863
    del x851, x863
    x883 = tiles.product(x27, x375, x882)
    del x375, x882
    x885 = tiles.addcmul_(x716 + x767, x27[:, :, None], x857, -1)
    del x27, x716, x767, x857
    x890 = torch.addcmul(x874, x343, x717)
    del x343, x717, x874
    x894 = tiles.addcmul_(x885 * -1 * x662, x877, x662, -1)
    del x662, x877, x885
    x896 = tiles.addcmul_(x761 - x783 - x879, x658[:, :, :, None], x712)
    x896 = tiles.addcmul_(x896, x894[:, :, :, None], k)
    x896 = tiles.addcmul_(x896, x673[:, :, :, None], x868, -1)
    x896 = tiles.addcmul_(x896, x675[:, :, :, None], x880, -1)
    del x658, x673, x675, x712, x761, x783, x868, x879, x880, x894
    x897 = x146 + x830 + x719 + x725 + x865 + x866
    del x146, x719, x725, x830, x865, x866
    x898 = valid * x897
    del x897
    x899 = x398 * x898
    del x398
    x900 = (x665 * -1)[:, :, None] * x899
    x901 = x14 * x898
    del x14, x898
    x902 = x901.sum(2)
    del x901
    x903 = x902 * x665 * -1
    del x902
    x904 = x899.sum(2)
    del x899
    x905 = x904 * x665 * -1
    del x665, x904
    return (x813, x896, x843, x900, x890, x903, x905, x883, x765), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x178 = tiles.addcmul_(x162[:, :, None] * k, x38[:, :, None], q, -1)
    del x162, x38
    x179 = x178 * x33
    del x178
    x180 = x179 * -1
    del x179
    x226 = x160[:, :, None] * k
    del x160
    S_rows = scan.Rows(steps, H)
    x229_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x172_c,
        v_c,
        x170_c,
        x226_c,
        x180_c,
    ) in scan.each(
        steps,
        H,
        (
            x172,
            v,
            x170[:, :, None, None],
            x226[:, :, :, None],
            x180,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x173 = (x172_c[..., None, :] @ S).squeeze(-2)
        x174 = v_c + x173
        x228 = tiles.addcmul_(scan.scale(S, x170_c, own), x226_c, x174[:, None])
        x229 = (x180_c[..., None, :] @ x228).squeeze(-2)
        x229_rows.put(x229)
        S = x228
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x229 = x229_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x229_rows
    del x170, x172, x180, x226
    return (x229,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias, s, _) = args
    H = h0[0].shape[1]
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
    x226 = x160[:, :, None] * k
    del x160
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x172_c,
        v_c,
        x170_c,
        x226_c,
    ) in scan.each(
        steps,
        H,
        (
            x172,
            v,
            x170[:, :, None, None],
            x226[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x173 = (x172_c[..., None, :] @ S).squeeze(-2)
        x174 = v_c + x173
        x228 = tiles.addcmul_(scan.scale(S, x170_c, own), x226_c, x174[:, None])
        S = x228
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x170, x172, x226
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias, s, d) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x172 = (x161 * -1)[:, :, None] * k
    x173 = (x172[..., None, :] @ S).squeeze(-2)
    del x172
    x174 = v + x173
    del x173
    x175 = (x160[:, :, None] * k)[:, :, :, None] * x174[:, :, None]
    x176 = torch.addcmul(x175, x170[:, :, None, None], S)
    del x175
    x178 = tiles.addcmul_(x162[:, :, None] * k, x38[:, :, None], q, -1)
    del x162
    x179 = x178 * x33
    del x178
    x182 = (do[..., None, :] @ x176.mT).squeeze(-2)
    del x176
    x184 = q * x182
    x185 = x184.sum(2)
    del x184
    x186 = tiles.product(x38, x38, x185, x164, (-0.5))
    del x185, x38
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
    del x167
    x225 = tiles.addcmul_(x164[:, :, None] * x182, x186[:, :, None], q, 2)
    del x164, x182, x186
    x230 = x166[:, :, None] * k
    del x166
    x193_rows = scan.Rows(steps, H, True)
    x198_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x192_c,
        k_c,
        x170_c,
        x230_c,
    ) in scan.each(
        steps,
        H,
        (
            x192,
            k,
            x170[:, :, None, None],
            x230[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x193 = dS - x192_c
        x197 = k_c[:, :, None] * x193
        x198 = x197.sum(1)
        x232 = tiles.addcmul_(x170_c * x193, x230_c, x198[:, None], -1)
        x193_rows.put(x193)
        x198_rows.put(x198)
        dS = x232
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x193 = x193_rows.joined()
    x198 = x198_rows.joined()
    del x193_rows
    del x198_rows
    del x192, x230
    x194 = x174[:, :, None] * x193
    x195 = x194.sum(3)
    del x194
    x199 = x174 * x198
    del x174
    x200 = x199.sum(2)
    del x199
    x202 = x160[:, :, None] * x198
    del x198
    x203 = tiles.product(x200, x109, x160)
    del x109
    x204 = (x202[..., None, :] @ S.mT).squeeze(-2)
    x205 = k * x204
    x206 = x205.sum(2)
    del x205
    x209 = tiles.addcmul_(tiles.addcmul_(-x207, x28, x200), x17, x206, -1)
    del x17, x200, x207, x28
    x210 = tiles.product(x22, x22, x22, x209, (-0.5))
    del x209, x22
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
    x224 = tiles.addcmul_(-x222, x160[:, :, None], x195)
    x224 = tiles.addcmul_(x224, x210[:, :, None], k, 2)
    x224 = tiles.addcmul_(x224, x161[:, :, None], x204, -1)
    del x160, x161, x195, x204, x210, x222
    return (x225, x224, x202, x218, x203, x219, x218, x212, x191), (dS_end,)
