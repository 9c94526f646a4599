"""gated_delta_product: generated from its spec by rnnc; do not edit.

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

NAME = "gated_delta_product"
SPEC_HASH = "66b74cdd626b8f539e99e4d7d3e07c7a1ebc30aa30142f141097fb3378fb9ecc"
INPUTS = (("q", ("K",)), ("k", ("n", "K")), ("v", ("n", "V")), ("a", ()), ("b", ("n",)))
PARAMS = (("A_log", ()), ("dt_bias", ()))
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
    x13 = (x10 * -1)[:, :, None] * x12
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
    x57 = x26 @ x26.mT
    x71 = (K) ** -0.5
    x72 = q * q
    x73 = x72.sum(3)
    del x72
    x74 = x73 + 1e-06
    del x73
    x75 = torch.rsqrt(x74)
    del x74
    x81 = q @ x26.mT
    x103 = x13 * tiles.LOG2E
    del x13
    x104 = torch.where(valid > 0, x103, 0)
    del x103
    x105 = tiles.prefix_sum(x104, 2)
    x106 = torch.exp2(x105)
    del x105
    x107 = x106[:, :, :, None].expand(-1, -1, -1, n_)
    x108 = x107.flatten(2, 3)
    del x107
    x109 = tiles.segment_sum(x104)
    x110 = torch.exp2(x109)
    del x109
    x111 = x110[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del x110
    x112 = x111.permute(0, 1, 2, 4, 3).flatten(2, 3)
    x113 = x112.permute(0, 1, 3, 2)[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del x112
    x114 = x113.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del x113
    x121 = x111.flatten(3, 4)
    del x111
    x124 = x81 * x121
    del x121, x81
    x128 = tiles.suffix_sum(x104, 2, exclusive=True)
    x129 = torch.exp2(x128)
    del x128
    x132 = x104.sum(2)
    del x104
    x133 = torch.exp2(x132)
    del x132
    x135 = x129[:, :, :, None].expand(-1, -1, -1, n_)
    del x129
    x136 = x135.flatten(2, 3)
    del x135
    x653 = x28 * x30
    x654 = x34 * x653
    del x653
    x655 = x28 * x30
    del x28, x30
    x656 = x34 * x655
    del x655
    x657 = x136 * x654
    del x136, x654
    x659 = x34 * x108
    del x108
    x660 = x75 * x106
    del x106
    x669 = x34[:, :, :, None] * x114.permute(0, 1, 3, 2)
    del x114, x34
    x672 = x75 * x71
    del x75
    x675 = x660 * x71
    del x660
    x677 = x657[:, :, :, None] * x26
    del x657
    x688 = tiles.product(x57, x669, (x656 * -2)[:, :, None])
    del x57, x669
    x692 = x656[:, :, None] * x124
    del x124, x656
    x693 = tiles.inverse(x688)
    del x688
    x799 = x675[:, :, :, None] * q
    del x675
    x801 = x659[:, :, :, None] * x26
    del x26, x659
    x808 = x672[:, :, :, None] * x692
    del x672, x692
    S_rows = scan.Rows(steps, H)
    x810_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x36_c,
        x801_c,
        x693_c,
        x799_c,
        x808_c,
        x133_c,
        x677_c,
    ) in scan.each(
        steps,
        H,
        (
            x36,
            x801,
            x693,
            x799,
            x808,
            x133[:, :, None, None],
            x677.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x803 = torch.baddbmm(x36_c, x801_c, S, alpha=-1)
        x805 = torch.bmm(x693_c, x803)
        x810 = torch.bmm(x799_c, S, out=x810_rows.room(n))
        x810 = scan.addmm(x810, x808_c, x805, 2)
        x812 = scan.addmm(scan.scale(S, x133_c, own), x677_c, x805, 2)
        x810_rows.put(x810)
        S = x812
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x810 = x810_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x810_rows
    del x133, x36, x677, x799, x801, x808
    return (x810,), (S_end,), (S, x693) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    n_ = k.shape[3]
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    del x11
    x13 = (x10 * -1)[:, :, None] * x12
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
    x57 = x26 @ x26.mT
    x103 = x13 * tiles.LOG2E
    del x13
    x104 = torch.where(valid > 0, x103, 0)
    del x103
    x105 = tiles.prefix_sum(x104, 2)
    x106 = torch.exp2(x105)
    del x105
    x107 = x106[:, :, :, None].expand(-1, -1, -1, n_)
    del x106
    x108 = x107.flatten(2, 3)
    del x107
    x109 = tiles.segment_sum(x104)
    x110 = torch.exp2(x109)
    del x109
    x111 = x110[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del x110
    x112 = x111.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del x111
    x113 = x112.permute(0, 1, 3, 2)[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del x112
    x114 = x113.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del x113
    x128 = tiles.suffix_sum(x104, 2, exclusive=True)
    x129 = torch.exp2(x128)
    del x128
    x132 = x104.sum(2)
    del x104
    x133 = torch.exp2(x132)
    del x132
    x135 = x129[:, :, :, None].expand(-1, -1, -1, n_)
    del x129
    x136 = x135.flatten(2, 3)
    del x135
    x653 = x28 * x30
    x654 = x34 * x653
    del x653
    x655 = x28 * x30
    del x28, x30
    x656 = x34 * x655
    del x655
    x657 = x136 * x654
    del x136, x654
    x659 = x34 * x108
    del x108
    x669 = x34[:, :, :, None] * x114.permute(0, 1, 3, 2)
    del x114, x34
    x677 = x657[:, :, :, None] * x26
    del x657
    x688 = tiles.product(x57, x669, (x656 * -2)[:, :, None])
    del x57, x656, x669
    x693 = tiles.inverse(x688)
    del x688
    x801 = x659[:, :, :, None] * x26
    del x26, x659
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x36_c,
        x801_c,
        x693_c,
        x133_c,
        x677_c,
    ) in scan.each(
        steps,
        H,
        (
            x36,
            x801,
            x693,
            x133[:, :, None, None],
            x677.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x803 = torch.baddbmm(x36_c, x801_c, S, alpha=-1)
        x805 = torch.bmm(x693_c, x803)
        x812 = scan.addmm(scan.scale(S, x133_c, own), x677_c, x805, 2)
        S = x812
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x133, x36, x677, x801
    return (), (S_end,), (S, x693) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x693) = kept
    (do,) = douts
    n_ = k.shape[3]
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = a_ + dt_bias[:, :, None]
    x12 = tiles.softplus(x11)
    x13 = (x10 * -1)[:, :, None] * x12
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
    x43 = x26 @ S
    x57 = x26 @ x26.mT
    x71 = (K) ** -0.5
    x72 = q * q
    x73 = x72.sum(3)
    del x72
    x74 = x73 + 1e-06
    del x73
    x75 = torch.rsqrt(x74)
    del x74
    x81 = q @ x26.mT
    x103 = x13 * tiles.LOG2E
    del x13
    x104 = torch.where(valid > 0, x103, 0)
    del x103
    x105 = tiles.prefix_sum(x104, 2)
    x106 = torch.exp2(x105)
    del x105
    x107 = x106[:, :, :, None].expand(-1, -1, -1, n_)
    x108 = x107.flatten(2, 3)
    del x107
    x109 = tiles.segment_sum(x104)
    x110 = torch.exp2(x109)
    del x109
    x111 = x110[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    x112 = x111.permute(0, 1, 2, 4, 3).flatten(2, 3)
    x113 = x112.permute(0, 1, 3, 2)[:, :, :, :, None].expand(-1, -1, -1, -1, n_)
    del x112
    x114 = x113.permute(0, 1, 2, 4, 3).flatten(2, 3)
    del x113
    x121 = x111.flatten(3, 4)
    del x111
    x124 = x81 * x121
    x128 = tiles.suffix_sum(x104, 2, exclusive=True)
    x129 = torch.exp2(x128)
    del x128
    x132 = x104.sum(2)
    del x104
    x133 = torch.exp2(x132)
    del x132
    x135 = x129[:, :, :, None].expand(-1, -1, -1, n_)
    x136 = x135.flatten(2, 3)
    del x135
    x167 = tiles.LN2
    x272 = tiles.LOG2E
    x285 = do @ S.mT
    x346 = -x30 + 1
    x413 = torch.sigmoid(x11)
    del x11
    x653 = x28 * x30
    x654 = x34 * x653
    x655 = x28 * x30
    x656 = x34 * x655
    del x655
    x657 = x136 * x654
    x659 = x34 * x108
    x660 = x75 * x106
    x661 = x28 * x34
    del x28
    x662 = x34 * x34
    x663 = x34 * x662
    del x662
    x665 = x10 * x272
    del x10
    x666 = x75 * x75
    x667 = x666 * x75
    del x666
    x669 = x34[:, :, :, None] * x114.permute(0, 1, 3, 2)
    x670 = x75[:, :, :, None] * x124
    x671 = x656[:, :, None] * x114.permute(0, 1, 3, 2)
    del x114
    x672 = x75 * x71
    x674 = x654 * x71
    x675 = x660 * x71
    x678 = x670.mT @ do
    x682 = x674[:, :, :, None] * x678
    del x678
    x685 = x660[:, :, :, None] * do
    del x660
    x690 = torch.addcmul(x36, x659[:, :, :, None], x43, value=-1)
    del x36
    x692 = x656[:, :, None] * x124
    del x124
    x694 = x693 @ x690
    del x690
    x701 = x659[:, :, :, None] * x26
    x712 = do @ x694.mT
    x713 = tiles.product(x81, x712, (x656 * 2)[:, :, None], x672[:, :, :, None])
    del x81
    x714 = x712 * x670
    del x670
    x715 = x714.sum(2)
    del x714
    x717 = x713.unflatten(3, (-1, n_))
    del x713
    x745 = x121 * x712
    del x121
    x746 = x656[:, :, None] * x745
    x747 = x746 @ x26
    del x746
    x748 = x75[:, :, :, None] * x745
    del x745, x75
    x749 = x748.mT @ q
    del x748
    x756 = x715 * x71
    del x715
    x757 = x661 * x756
    x761 = x653 * x756
    del x756
    x766 = x674[:, :, :, None] * x749
    del x674, x749
    x813 = q * x285
    x814 = x813.sum(3)
    del x813
    x815 = x106 * x814 * x71
    x820 = x814 * x672
    del x814
    x833 = x692 * x712
    del x692, x712
    x834 = x833.sum(3)
    del x833
    x835 = x834 * x71
    del x834
    x836 = torch.add(x815, x835, alpha=2)
    del x815, x835
    x837 = x667 * x836
    del x667, x836
    x839 = tiles.addcmul_(x675[:, :, :, None] * x285, x672[:, :, :, None], x747, 2)
    x839 = tiles.addcmul_(x839, x837[:, :, :, None], q, -1)
    del x285, x672, x675, x747, x837
    x840 = x657[:, :, :, None] * x26
    x165_rows = scan.Rows(steps, H, True)
    x702_rows = scan.Rows(steps, H, True)
    x843_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x840_c,
        x682_c,
        x693_c,
        S_c,
        x694_c,
        x133_c,
        q_c,
        x685_c,
        x701_c,
    ) in scan.each(
        steps,
        H,
        (
            x840,
            x682,
            x693.mT,
            S,
            x694,
            x133[:, :, None, None],
            q.mT,
            x685,
            x701.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x842 = torch.baddbmm(x682_c, x840_c, dS, beta=2, alpha=2)
        x843 = torch.bmm(x693_c, x842, out=x843_rows.room(n))
        x164 = S_c * dS
        x165 = x164.sum(1)
        x702 = torch.bmm(x694_c, dS.mT, out=x702_rows.room(n))
        x892 = scan.addmm(scan.scale(dS, x133_c, own), q_c, x685_c, x71)
        x892 = scan.addmm(x892, x701_c, x843, -1)
        x165_rows.put(x165)
        x702_rows.put(x702)
        x843_rows.put(x843)
        dS = x892
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x165 = x165_rows.joined()
    x702 = x702_rows.joined()
    x843 = x843_rows.joined()
    del x165_rows
    del x702_rows
    del x843_rows
    del x682, x685, x701, x840
    x166 = x165.sum(2)
    del x165
    x169 = x133 * x166 * x167
    del x133, x166
    x170 = x169[:, :, None].expand(-1, -1, C)
    del x169
    x703 = x26 * x702
    x704 = x703.sum(3)
    del x703
    x705 = x704 * x654 * 2
    x706 = x705.unflatten(2, (-1, n_))
    del x705
    x707 = x706.sum(3)
    del x706
    x708 = x129 * x707 * x167
    del x129, x707
    x709 = tiles.prefix_sum(x708, 2, exclusive=True)
    del x708
    x772 = tiles.product(x136, x704, x653)
    del x136
    x775 = tiles.product(x346, x704, x657)
    del x704
    x845 = x843 @ x694.mT
    del x694
    x846 = x845.tril(-1)
    del x845
    x847 = x43 * x843
    del x43
    x848 = x847.sum(3)
    del x847
    x849 = x34 * x848 * -1
    x850 = x57 * x846
    del x57
    x851 = tiles.product(x850, (x34 * -2)[:, :, :, None], x656[:, :, None])
    del x656
    x852 = x850 * x671
    x853 = x852.sum(3)
    del x852
    x854 = x850 * x669
    del x850
    x855 = x854.sum(2)
    del x854
    x857 = x851.unflatten(3, (-1, n_))
    del x851
    x858 = x857.sum(4)
    del x857
    x859 = x858.unflatten(2, (-1, n_))
    del x858
    x860 = x717 + x859.permute(0, 1, 2, 4, 3)
    del x717, x859
    x861 = x860.sum(4)
    del x860
    x862 = x110 * x861 * x167
    del x110, x861
    x863 = tiles.segment_sum_grad(x862)
    del x862
    x864 = x849.unflatten(2, (-1, n_))
    del x849
    x865 = x864.sum(3)
    del x864
    x866 = x846 * x671
    del x671
    x867 = x866 @ x26
    del x866
    x868 = x846 * x669
    del x669, x846
    x869 = x868.mT @ x26
    del x868
    x871 = tiles.addcmul_(2 * x757, x855, x661, -2)
    del x661, x757
    x872 = tiles.product(x30, x346, x871)
    del x30, x346, x871
    x875 = tiles.addcmul_(tiles.addcmul_(2 * x761, x108, x848, -1), x855, x653, -2)
    del x108, x653, x761, x848, x855
    x878 = x843 @ S.mT
    x880 = x843.unflatten(2, (-1, n_))
    del x843
    x881 = torch.add(-2 * x853, x772, alpha=2)
    del x772, x853
    x883 = torch.add(x872, x775, alpha=2)
    del x775, x872
    x884 = x883.unflatten(2, (-1, n_))
    del x883
    x888 = tiles.addcmul_(x881 * -1 * x663, x875, x663, -1)
    del x663, x875, x881
    x890 = tiles.addcmul_(2 * x766, x888[:, :, :, None], x26)
    x890 = tiles.addcmul_(x890, x654[:, :, :, None], x869, -2)
    x890 = tiles.addcmul_(x890, x657[:, :, :, None], x702, 2)
    x890 = tiles.addcmul_(x890, x34[:, :, :, None], x867, -2)
    x890 = tiles.addcmul_(x890, x659[:, :, :, None], x878, -1)
    del x26, x34, x654, x657, x659, x702, x766, x867, x869, x878, x888
    x891 = x890.unflatten(2, (-1, n_))
    del x890
    x893 = x820 + x865
    del x820, x865
    x894 = x106 * x893 * x167
    del x106, x893
    x895 = tiles.suffix_sum(x894, 2)
    del x894
    x896 = x170 + x709 + x863 + x895
    del x170, x709, x863, x895
    x897 = valid * x896
    del x896
    x898 = x413 * x897
    del x413
    x899 = (x665 * -1)[:, :, None] * x898
    x900 = x12 * x897
    del x12, x897
    x901 = x900.sum(2)
    del x900
    x902 = x901 * x665 * -1
    del x901
    x903 = x898.sum(2)
    del x898
    x904 = x903 * x665 * -1
    del x665, x903
    return (x839, x891, x880, x899, x884, x902, x904), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x26 = torch.sigmoid(b_)
    x27 = k * k
    x28 = x27.sum(3)
    del x27
    x29 = x28 + 1e-06
    del x28
    x30 = torch.rsqrt(x29)
    del x29
    x47 = k @ k.mT
    x59 = (K) ** -0.5
    x60 = q * q
    x61 = x60.sum(2)
    del x60
    x62 = x61 + 1e-06
    del x61
    x63 = torch.rsqrt(x62)
    del x62
    x415 = x26 * x30
    x416 = x26 * x30
    del x26
    x417 = x63 * x59
    del x63
    x418 = x9 * x11
    del x11, x9
    x424 = x417[:, :, None] * q
    del x417
    x425 = x418 * -1
    del x418
    x426 = torch.exp(x425)
    del x425
    x430 = x416[:, :, :, None] * k
    del x416
    x439 = tiles.product(x47, (x30 * -2)[:, :, :, None], x415[:, :, None])
    del x415, x47
    x441 = tiles.inverse(x439)
    del x439
    x510 = x30[:, :, :, None] * k
    del x30
    S_rows = scan.Rows(steps, H)
    x518_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x510_c,
        v_c,
        x426_c,
        x441_c,
        x430_c,
        x424_c,
    ) in scan.each(
        steps,
        H,
        (
            x510,
            v,
            x426[:, :, None, None],
            x441,
            x430.mT,
            x424,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x511 = torch.bmm(x510_c, S)
        x513 = torch.addcmul(v_c, x426_c, x511, value=-1)
        x515 = torch.bmm(x441_c, x513)
        x517 = scan.addmm(scan.scale(S, x426_c, own), x430_c, x515, 2)
        x518 = (x424_c[..., None, :] @ x517).squeeze(-2)
        x518_rows.put(x518)
        S = x517
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x518 = x518_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x518_rows
    del x424, x426, x430, x510
    return (x518,), (S_end,), (S, x441) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
    del x10
    x26 = torch.sigmoid(b_)
    x27 = k * k
    x28 = x27.sum(3)
    del x27
    x29 = x28 + 1e-06
    del x28
    x30 = torch.rsqrt(x29)
    del x29
    x47 = k @ k.mT
    x415 = x26 * x30
    x416 = x26 * x30
    del x26
    x418 = x9 * x11
    del x11, x9
    x425 = x418 * -1
    del x418
    x426 = torch.exp(x425)
    del x425
    x430 = x416[:, :, :, None] * k
    del x416
    x439 = tiles.product(x47, (x30 * -2)[:, :, :, None], x415[:, :, None])
    del x415, x47
    x441 = tiles.inverse(x439)
    del x439
    x510 = x30[:, :, :, None] * k
    del x30
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x510_c,
        v_c,
        x426_c,
        x441_c,
        x430_c,
    ) in scan.each(
        steps,
        H,
        (
            x510,
            v,
            x426[:, :, None, None],
            x441,
            x430.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x511 = torch.bmm(x510_c, S)
        x513 = torch.addcmul(v_c, x426_c, x511, value=-1)
        x515 = torch.bmm(x441_c, x513)
        x517 = scan.addmm(scan.scale(S, x426_c, own), x430_c, x515, 2)
        S = x517
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x426, x430, x510
    return (), (S_end,), (S, x441) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, x441) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x9 = torch.exp(A_log)
    x10 = a_ + dt_bias
    x11 = tiles.softplus(x10)
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
    x35 = k @ S
    x47 = k @ k.mT
    x59 = (K) ** -0.5
    x60 = q * q
    x61 = x60.sum(2)
    del x60
    x62 = x61 + 1e-06
    del x61
    x63 = torch.rsqrt(x62)
    del x62
    x178 = -x16 + 1
    x244 = torch.sigmoid(x10)
    del x10
    x319 = x30[:, :, :, None] * k
    x411 = x16 * x21
    x412 = x21 * x21
    x413 = x21 * x412
    del x412
    x414 = x178 * x411
    del x178
    x415 = x26 * x30
    x416 = x26 * x30
    del x26
    x417 = x63 * x59
    x418 = x9 * x11
    del x11
    x420 = x63 * x63
    del x63
    x423 = x30[:, :, :, None] * x35
    x424 = x417[:, :, None] * q
    x425 = x418 * -1
    x426 = torch.exp(x425)
    del x425
    x429 = torch.addcmul(v, x426[:, :, None, None], x423, value=-1)
    x430 = x416[:, :, :, None] * k
    x431 = do[:, :, None] * x424[:, :, :, None]
    del x424
    x442 = x441 @ x429
    del x429
    x444 = tiles.addmm_(x426[:, :, None, None] * S, x430.mT, x442, 2)
    del x430
    x446 = (do[..., None, :] @ x444.mT).squeeze(-2)
    del x444
    x448 = q * x446
    x449 = x448.sum(2)
    del x448
    x451 = x416[:, :, :, None] * x441
    del x416
    x506 = x420 * x449
    del x420, x449
    x507 = x506 * x417
    del x506
    x509 = tiles.addcmul_(x417[:, :, None] * x446, x507[:, :, None], q, -1)
    del x417, x446, x507
    x519 = x426[:, :, None, None] * x319
    del x319
    x432_rows = scan.Rows(steps, H, True)
    x433_rows = scan.Rows(steps, H, True)
    x452_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x431_c,
        k_c,
        x451_c,
        x426_c,
        x519_c,
    ) in scan.each(
        steps,
        H,
        (
            x431,
            k,
            x451.mT,
            x426[:, :, None, None],
            x519.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x432 = dS + x431_c
        x433 = torch.add(2 * dS, x431_c, alpha=2)
        x434 = torch.bmm(k_c, x433)
        x452 = torch.bmm(x451_c, x434, out=x452_rows.room(n))
        x521 = scan.addmm(x426_c * x432, x519_c, x452, -1)
        x432_rows.put(x432)
        x433_rows.put(x433)
        x452_rows.put(x452)
        dS = x521
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x432 = x432_rows.joined()
    x433 = x433_rows.joined()
    x452 = x452_rows.joined()
    del x432_rows
    del x433_rows
    del x452_rows
    del x431, x451, x519
    x436 = S * x432
    del x432
    x437 = x436.sum(2)
    del x436
    x438 = x437.sum(2)
    del x437
    x450 = x442 @ x433.mT
    del x433
    x455 = x452 @ x442.mT
    del x442
    x456 = x455.tril(-1)
    del x455
    x457 = x452 * x423
    del x423
    x459 = x457.sum(2)
    del x457
    x460 = x459.sum(2)
    del x459
    x462 = x47 * x456
    del x47
    x463 = x415[:, :, None] * x462
    x464 = x463.sum(3)
    del x463
    x465 = x30[:, :, :, None] * x462
    del x462
    x466 = x465.sum(2)
    del x465
    x467 = x415[:, :, None] * x456
    del x415
    x468 = x467 @ k
    del x467
    x469 = x30[:, :, :, None] * x456
    del x30, x456
    x470 = x469.mT @ k
    del x469
    x472 = x35 * x452
    del x35
    x473 = x472.sum(3)
    del x472
    x476 = tiles.addcmul_(x426[:, :, None] * -1 * x473, x16, x466, -2)
    del x473
    x479 = x452 @ S.mT
    x482 = k * x450
    x483 = x482.sum(3)
    del x482
    x488 = tiles.addcmul_(-2 * x464, x16, x483)
    del x16, x464
    x492 = tiles.product(x479, x426[:, :, None, None], x21[:, :, :, None])
    del x479
    x493 = x438 - x460
    del x438, x460
    x494 = x426 * x493
    del x426, x493
    x495 = tiles.product(x9, x244, x494, (-1))
    del x244, x9
    x496 = x418 * x494 * -1
    del x418, x494
    x500 = tiles.addcmul_(x483 * x414, x466, x414, -2)
    del x414, x466, x483
    x503 = tiles.addcmul_(x476 * -1 * x413, x488, x413, -1)
    del x413, x476, x488
    x505 = tiles.addcmul_(-x492, x411[:, :, :, None], x450)
    x505 = tiles.addcmul_(x505, x503[:, :, :, None], k)
    x505 = tiles.addcmul_(x505, x411[:, :, :, None], x470, -2)
    x505 = tiles.addcmul_(x505, x21[:, :, :, None], x468, -2)
    del x21, x411, x450, x468, x470, x492, x503
    return (x509, x505, x452, x495, x500, x496, x495), (dS_end,)
