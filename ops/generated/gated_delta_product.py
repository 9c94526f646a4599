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
    x805_rows = scan.Rows(steps, H)
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
        x805 = torch.bmm(x693_c, x803, out=x805_rows.room(n))
        x810 = torch.bmm(x799_c, S, out=x810_rows.room(n))
        x810 = scan.addmm(x810, x808_c, x805, 2)
        x812 = scan.addmm(scan.scale(S, x133_c, own), x677_c, x805, 2)
        if keep:
            x805_rows.put(x805)
        x810_rows.put(x810)
        S = x812
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x810 = x810_rows.joined()
    if keep:
        S = S_rows.joined()
        x805 = x805_rows.joined()
    del S_rows
    del x805_rows
    del x810_rows
    del x133, x36, x677, x799, x801, x808
    return (x810,), (S_end,), (S, x693, x805) if keep else None


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
    x805_rows = scan.Rows(steps, H)
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
        x805 = torch.bmm(x693_c, x803, out=x805_rows.room(n))
        x812 = scan.addmm(scan.scale(S, x133_c, own), x677_c, x805, 2)
        if keep:
            x805_rows.put(x805)
        S = x812
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x805 = x805_rows.joined()
    del S_rows
    del x805_rows
    del x133, x36, x677, x801
    return (), (S_end,), (S, x693, x805) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x693, x694) = kept
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
    x692 = x656[:, :, None] * x124
    del x124
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
    x864 = x657[:, :, :, None] * x26
    x165_rows = scan.Rows(steps, H, True)
    x702_rows = scan.Rows(steps, H, True)
    x867_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x864_c,
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
            x864,
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
        x866 = torch.baddbmm(x682_c, x864_c, dS, beta=2, alpha=2)
        x867 = torch.bmm(x693_c, x866, out=x867_rows.room(n))
        x164 = S_c * dS
        x165 = x164.sum(1)
        x702 = torch.bmm(x694_c, dS.mT, out=x702_rows.room(n))
        x904 = scan.addmm(scan.scale(dS, x133_c, own), q_c, x685_c, x71)
        x904 = scan.addmm(x904, x701_c, x867, -1)
        x165_rows.put(x165)
        x702_rows.put(x702)
        x867_rows.put(x867)
        dS = x904
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x165 = x165_rows.joined()
    x702 = x702_rows.joined()
    x867 = x867_rows.joined()
    del x165_rows
    del x702_rows
    del x867_rows
    del x682, x685, x701, x864
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
    x869 = x867 @ x694.mT
    x870 = x869.tril(-1)
    del x869
    x871 = x57 * x870
    del x57
    x872 = tiles.product(x871, (x34 * -2)[:, :, :, None], x656[:, :, None])
    del x656
    x873 = x871 * x671
    x874 = x873.sum(3)
    del x873
    x875 = x871 * x669
    del x871
    x876 = x875.sum(2)
    del x875
    x878 = x872.unflatten(3, (-1, n_))
    del x872
    x879 = x878.sum(4)
    del x878
    x880 = x879.unflatten(2, (-1, n_))
    del x879
    x881 = x717 + x880.permute(0, 1, 2, 4, 3)
    del x717, x880
    x882 = x881.sum(4)
    del x881
    x883 = x110 * x882 * x167
    del x110, x882
    x884 = tiles.segment_sum_grad(x883)
    del x883
    x885 = x870 * x671
    del x671
    x886 = x885 @ x26
    del x885
    x887 = x870 * x669
    del x669, x870
    x888 = x887.mT @ x26
    del x887
    x890 = tiles.addcmul_(2 * x757, x876, x661, -2)
    del x661, x757
    x891 = tiles.product(x30, x346, x890)
    del x30, x346, x890
    x895 = x867 @ S.mT
    x897 = x867.unflatten(2, (-1, n_))
    del x867
    x898 = torch.add(-2 * x874, x772, alpha=2)
    del x772, x874
    x900 = torch.add(x891, x775, alpha=2)
    del x775, x891
    x901 = x900.unflatten(2, (-1, n_))
    del x900
    x905 = x26 * x895
    x906 = x905.sum(3)
    del x905
    x908 = tiles.addcmul_(tiles.addcmul_(2 * x761, x108, x906, -1), x876, x653, -2)
    del x108, x653, x761, x876
    x910 = tiles.addcmul_(x898 * -1 * x663, x908, x663, -1)
    del x663, x898, x908
    x912 = tiles.addcmul_(2 * x766, x910[:, :, :, None], x26)
    x912 = tiles.addcmul_(x912, x654[:, :, :, None], x888, -2)
    x912 = tiles.addcmul_(x912, x657[:, :, :, None], x702, 2)
    x912 = tiles.addcmul_(x912, x34[:, :, :, None], x886, -2)
    x912 = tiles.addcmul_(x912, x659[:, :, :, None], x895, -1)
    del x26, x654, x657, x659, x702, x766, x886, x888, x895, x910
    x913 = x912.unflatten(2, (-1, n_))
    del x912
    x914 = x34 * x906 * -1
    del x34, x906
    x915 = x914.unflatten(2, (-1, n_))
    del x914
    x916 = x915.sum(3)
    del x915
    x917 = x820 + x916
    del x820, x916
    x918 = x106 * x917 * x167
    del x106, x917
    x919 = tiles.suffix_sum(x918, 2)
    del x918
    x920 = x170 + x709 + x884 + x919
    del x170, x709, x884, x919
    x921 = valid * x920
    del x920
    x922 = x413 * x921
    del x413
    x923 = (x665 * -1)[:, :, None] * x922
    x924 = x12 * x921
    del x12, x921
    x925 = x924.sum(2)
    del x924
    x926 = x925 * x665 * -1
    del x925
    x927 = x922.sum(2)
    del x922
    x928 = x927 * x665 * -1
    del x665, x927
    return (x839, x913, x897, x923, x901, x926, x928), (dS_end,)


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
    x413 = x26 * x30
    x414 = x26 * x30
    del x26
    x415 = x63 * x59
    del x63
    x416 = x9 * x11
    del x11, x9
    x422 = x415[:, :, None] * q
    del x415
    x423 = x416 * -1
    del x416
    x424 = torch.exp(x423)
    del x423
    x428 = x414[:, :, :, None] * k
    del x414
    x437 = tiles.product(x47, (x30 * -2)[:, :, :, None], x413[:, :, None])
    del x413, x47
    x439 = tiles.inverse(x437)
    del x437
    x508 = x30[:, :, :, None] * k
    del x30
    S_rows = scan.Rows(steps, H)
    x513_rows = scan.Rows(steps, H)
    x516_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x508_c,
        v_c,
        x424_c,
        x439_c,
        x428_c,
        x422_c,
    ) in scan.each(
        steps,
        H,
        (
            x508,
            v,
            x424[:, :, None, None],
            x439,
            x428.mT,
            x422,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x509 = torch.bmm(x508_c, S)
        x511 = torch.addcmul(v_c, x424_c, x509, value=-1)
        x513 = torch.bmm(x439_c, x511, out=x513_rows.room(n))
        x515 = scan.addmm(scan.scale(S, x424_c, own), x428_c, x513, 2)
        x516 = (x422_c[..., None, :] @ x515).squeeze(-2)
        if keep:
            x513_rows.put(x513)
        x516_rows.put(x516)
        S = x515
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x516 = x516_rows.joined()
    if keep:
        S = S_rows.joined()
        x513 = x513_rows.joined()
    del S_rows
    del x513_rows
    del x516_rows
    del x422, x424, x428, x508
    return (x516,), (S_end,), (S, x439, x513) if keep else None


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
    x413 = x26 * x30
    x414 = x26 * x30
    del x26
    x416 = x9 * x11
    del x11, x9
    x423 = x416 * -1
    del x416
    x424 = torch.exp(x423)
    del x423
    x428 = x414[:, :, :, None] * k
    del x414
    x437 = tiles.product(x47, (x30 * -2)[:, :, :, None], x413[:, :, None])
    del x413, x47
    x439 = tiles.inverse(x437)
    del x437
    x508 = x30[:, :, :, None] * k
    del x30
    S_rows = scan.Rows(steps, H)
    x513_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x508_c,
        v_c,
        x424_c,
        x439_c,
        x428_c,
    ) in scan.each(
        steps,
        H,
        (
            x508,
            v,
            x424[:, :, None, None],
            x439,
            x428.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x509 = torch.bmm(x508_c, S)
        x511 = torch.addcmul(v_c, x424_c, x509, value=-1)
        x513 = torch.bmm(x439_c, x511, out=x513_rows.room(n))
        x515 = scan.addmm(scan.scale(S, x424_c, own), x428_c, x513, 2)
        if keep:
            x513_rows.put(x513)
        S = x515
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x513 = x513_rows.joined()
    del S_rows
    del x513_rows
    del x424, x428, x508
    return (), (S_end,), (S, x439, x513) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S, x439, x440) = kept
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
    x176 = -x16 + 1
    x242 = torch.sigmoid(x10)
    del x10
    x317 = x30[:, :, :, None] * k
    x409 = x16 * x21
    x410 = x21 * x21
    x411 = x21 * x410
    del x410
    x412 = x176 * x409
    del x176
    x413 = x26 * x30
    x414 = x26 * x30
    del x26
    x415 = x63 * x59
    x416 = x9 * x11
    del x11
    x418 = x63 * x63
    del x63
    x421 = x30[:, :, :, None] * x35
    x422 = x415[:, :, None] * q
    x423 = x416 * -1
    x424 = torch.exp(x423)
    del x423
    x428 = x414[:, :, :, None] * k
    x429 = do[:, :, None] * x422[:, :, :, None]
    del x422
    x442 = tiles.addmm_(x424[:, :, None, None] * S, x428.mT, x440, 2)
    del x428
    x444 = (do[..., None, :] @ x442.mT).squeeze(-2)
    del x442
    x446 = q * x444
    x447 = x446.sum(2)
    del x446
    x449 = x414[:, :, :, None] * x439
    del x414
    x504 = x418 * x447
    del x418, x447
    x505 = x504 * x415
    del x504
    x507 = tiles.addcmul_(x415[:, :, None] * x444, x505[:, :, None], q, -1)
    del x415, x444, x505
    x517 = x424[:, :, None, None] * x317
    del x317
    x430_rows = scan.Rows(steps, H, True)
    x431_rows = scan.Rows(steps, H, True)
    x450_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x429_c,
        k_c,
        x449_c,
        x424_c,
        x517_c,
    ) in scan.each(
        steps,
        H,
        (
            x429,
            k,
            x449.mT,
            x424[:, :, None, None],
            x517.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x430 = dS + x429_c
        x431 = torch.add(2 * dS, x429_c, alpha=2)
        x432 = torch.bmm(k_c, x431)
        x450 = torch.bmm(x449_c, x432, out=x450_rows.room(n))
        x519 = scan.addmm(x424_c * x430, x517_c, x450, -1)
        x430_rows.put(x430)
        x431_rows.put(x431)
        x450_rows.put(x450)
        dS = x519
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x430 = x430_rows.joined()
    x431 = x431_rows.joined()
    x450 = x450_rows.joined()
    del x430_rows
    del x431_rows
    del x450_rows
    del x429, x449, x517
    x434 = S * x430
    del x430
    x435 = x434.sum(2)
    del x434
    x436 = x435.sum(2)
    del x435
    x448 = x440 @ x431.mT
    del x431
    x453 = x450 @ x440.mT
    x454 = x453.tril(-1)
    del x453
    x455 = x450 * x421
    del x421
    x457 = x455.sum(2)
    del x455
    x458 = x457.sum(2)
    del x457
    x460 = x47 * x454
    del x47
    x461 = x413[:, :, None] * x460
    x462 = x461.sum(3)
    del x461
    x463 = x30[:, :, :, None] * x460
    del x460
    x464 = x463.sum(2)
    del x463
    x465 = x413[:, :, None] * x454
    del x413
    x466 = x465 @ k
    del x465
    x467 = x30[:, :, :, None] * x454
    del x30, x454
    x468 = x467.mT @ k
    del x467
    x470 = x35 * x450
    del x35
    x471 = x470.sum(3)
    del x470
    x474 = tiles.addcmul_(x424[:, :, None] * -1 * x471, x16, x464, -2)
    del x471
    x477 = x450 @ S.mT
    x480 = k * x448
    x481 = x480.sum(3)
    del x480
    x486 = tiles.addcmul_(-2 * x462, x16, x481)
    del x16, x462
    x490 = tiles.product(x477, x424[:, :, None, None], x21[:, :, :, None])
    del x477
    x491 = x436 - x458
    del x436, x458
    x492 = x424 * x491
    del x424, x491
    x493 = tiles.product(x9, x242, x492, (-1))
    del x242, x9
    x494 = x416 * x492 * -1
    del x416, x492
    x498 = tiles.addcmul_(x481 * x412, x464, x412, -2)
    del x412, x464, x481
    x501 = tiles.addcmul_(x474 * -1 * x411, x486, x411, -1)
    del x411, x474, x486
    x503 = tiles.addcmul_(-x490, x409[:, :, :, None], x448)
    x503 = tiles.addcmul_(x503, x501[:, :, :, None], k)
    x503 = tiles.addcmul_(x503, x409[:, :, :, None], x468, -2)
    x503 = tiles.addcmul_(x503, x21[:, :, :, None], x466, -2)
    del x21, x409, x448, x466, x468, x490, x501
    return (x507, x503, x450, x493, x498, x494, x493), (dS_end,)
