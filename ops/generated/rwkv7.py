"""rwkv7: generated from its spec by rnnc; do not edit.

S[t] = decay * S[t-1] - rate * kappa @ (S[t-1].T @ kappa).T + key @ v.T
o[t] = S[t].T @ r
bonus[t] = v * ((rate * k * mix * r).T @ rho - (k * mix * r).T @ rho + (k * r).T @ rho)
  decay = exp(-exp(-0.5) * sigmoid(w0 + w))
  rate = sigmoid(a)
  kappa = unit(k * xi)
  key = k * (1 + (rate - 1) * mix)

In a chunk of C tokens with the incoming state S_in:
  D = decay
  w_1 = -rate * kappa,  f1 = kappa
  w_2 = key,  v_2 = v
  q = r
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f[i]^T (G[i-1]/G[j]) w_[j],  j < i
  U = (I - P_rr)^-1 ((f * G[i-1]) S_in + P_rp v_p)
  _r are the writes that read, _p those that do not: there U = v_
  A[i,j] = q[i]^T (G[i]/G[j]) w_[j],  j <= i
  r_ = A U + (q * G) S_in
  S_out = G[C] * S_in + (w_ * G[C]/G)^T U
"""

import math

import torch

from rnnc.ops import scan, tiles

NAME = "rwkv7"
SPEC_HASH = "ed078d91251cb2feb5601b34a644680b84fcd376428bebf77f532fd79d9ec80e"
INPUTS = (("r", ("K",)), ("w", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)))
PARAMS = (("w0", ("K",)), ("xi", ("K",)), ("mix", ("K",)), ("rho", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)), ("bonus", ("V",)))


def chunked_forward(args, valid, h0, steps, keep):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    H = h0[0].shape[1]
    x13 = math.exp(-0.5)
    x14 = w + w0[:, :, None]
    x15 = torch.sigmoid(x14)
    del x14
    x16 = x15 * -1 * x13
    del x15
    x19 = torch.sigmoid(a_)
    x20 = xi[:, :, None] * k
    x32 = torch.addcmul(-mix[:, :, None], mix[:, :, None], x19)
    x32 = x32 + 1
    x33 = k * x32
    x95 = x16 * tiles.LOG2E
    del x16
    x96 = torch.where(valid[:, :, :, None] > 0, x95, 0)
    del x95
    x97 = tiles.prefix_sum(x96, 2, exclusive=True)
    x98 = torch.exp2(x97)
    del x97
    x100 = k * x98
    del x98
    x110 = tiles.prefix_sum(x96, 2)
    x111 = torch.exp2(x110)
    del x110
    x112 = r * x111
    del x111
    x120 = tiles.suffix_sum(x96, 2, exclusive=True)
    x121 = torch.exp2(x120)
    del x120
    x124 = x96.sum(2)
    x125 = torch.exp2(x124)
    del x124
    x704 = k * x19
    del x19
    x705 = k * x121
    x706 = r * k
    x707 = x121 * x704
    del x121
    x708 = k * k
    x709 = r * x704
    x712 = x32 * x705
    del x32, x705
    x717 = mix * rho
    x719 = xi * xi
    x735 = x719[:, :, None] * x708
    del x708, x719
    x736 = x735.sum(3)
    del x735
    x737 = x736 + 1e-06
    del x736
    x738 = torch.rsqrt(x737)
    del x737
    x739 = x738[:, :, :, None] * x20
    del x20
    x740 = valid * x738
    x741 = tiles.product(x704, (xi * -1)[:, :, None], x740[:, :, :, None])
    del x704
    x742 = valid[:, :, :, None] * x33
    del x33
    x743 = x717[:, :, None] * x709
    del x709
    x744 = x743.sum(3)
    del x743
    x745 = x717[:, :, None] * x706
    del x717
    x746 = x745.sum(3)
    del x745
    x747 = rho[:, :, None] * x706
    del x706
    x748 = x747.sum(3)
    del x747
    x749 = x744 + x748 - x746
    del x744, x746, x748
    x750 = x749[:, :, :, None] * v
    del x749
    x751 = xi[:, :, None] * x100
    del x100
    x753 = x740[:, :, :, None] * x707
    del x707, x740
    x754 = valid[:, :, :, None] * x712
    del x712
    f1 = tiles.decay_factors(x96, exclusive=True)
    x787 = tiles.decay_dot(x739, x742, f1, strict=True)
    x788 = x787 @ v
    x789 = tiles.decay_dot(x739, x741, f1, strict=True)
    del f1, x739
    f1_2 = tiles.decay_factors(x96)
    x793 = tiles.decay_dot(r, x741, f1_2)
    del x741
    x794 = tiles.decay_dot(r, x742, f1_2)
    del f1_2, x742, x96
    x795 = x794 @ v
    x796 = tiles.inverse(x789)
    del x789
    x920 = x738[:, :, :, None] * x751
    del x738, x751
    x929 = xi[:, :, None] * x753
    del x753
    S_rows = scan.Rows(steps, H)
    x924_rows = scan.Rows(steps, H)
    x927_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x788_c,
        x920_c,
        x796_c,
        x112_c,
        x795_c,
        x793_c,
        x125_c,
        x754_c,
        v_c,
        x929_c,
    ) in scan.each(
        steps,
        H,
        (
            x788,
            x920,
            x796,
            x112,
            x795,
            x793,
            x125[:, :, :, None],
            x754.mT,
            v,
            x929.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x922 = torch.baddbmm(x788_c, x920_c, S)
        x924 = torch.bmm(x796_c, x922, out=x924_rows.room(n))
        x927 = torch.baddbmm(x795_c, x112_c, S, out=x927_rows.room(n))
        x927 = scan.addmm(x927, x793_c, x924)
        x931 = scan.addmm(scan.scale(S, x125_c, own), x754_c, v_c)
        x931 = scan.addmm(x931, x929_c, x924, -1)
        if keep:
            x924_rows.put(x924)
        x927_rows.put(x927)
        S = x931
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x927 = x927_rows.joined()
    if keep:
        S = S_rows.joined()
        x924 = x924_rows.joined()
    del S_rows
    del x924_rows
    del x927_rows
    del x112, x125, x754, x788, x795, x920, x929
    return (x927, x750), (S_end,), (S, x787, x793, x794, x796, x924) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (r, w, k, v, a_, w0, xi, mix, _) = args
    H = h0[0].shape[1]
    x13 = math.exp(-0.5)
    x14 = w + w0[:, :, None]
    x15 = torch.sigmoid(x14)
    del x14
    x16 = x15 * -1 * x13
    del x15
    x19 = torch.sigmoid(a_)
    x20 = xi[:, :, None] * k
    x32 = torch.addcmul(-mix[:, :, None], mix[:, :, None], x19)
    x32 = x32 + 1
    x33 = k * x32
    x95 = x16 * tiles.LOG2E
    del x16
    x96 = torch.where(valid[:, :, :, None] > 0, x95, 0)
    del x95
    x97 = tiles.prefix_sum(x96, 2, exclusive=True)
    x98 = torch.exp2(x97)
    del x97
    x100 = k * x98
    del x98
    x120 = tiles.suffix_sum(x96, 2, exclusive=True)
    x121 = torch.exp2(x120)
    del x120
    x124 = x96.sum(2)
    x125 = torch.exp2(x124)
    del x124
    x704 = k * x19
    del x19
    x705 = k * x121
    x707 = x121 * x704
    del x121
    x708 = k * k
    x712 = x32 * x705
    del x32, x705
    x719 = xi * xi
    x735 = x719[:, :, None] * x708
    del x708, x719
    x736 = x735.sum(3)
    del x735
    x737 = x736 + 1e-06
    del x736
    x738 = torch.rsqrt(x737)
    del x737
    x739 = x738[:, :, :, None] * x20
    del x20
    x740 = valid * x738
    x741 = tiles.product(x704, (xi * -1)[:, :, None], x740[:, :, :, None])
    del x704
    x742 = valid[:, :, :, None] * x33
    del x33
    x751 = xi[:, :, None] * x100
    del x100
    x753 = x740[:, :, :, None] * x707
    del x707, x740
    x754 = valid[:, :, :, None] * x712
    del x712
    f1 = tiles.decay_factors(x96, exclusive=True)
    x787 = tiles.decay_dot(x739, x742, f1, strict=True)
    x788 = x787 @ v
    x789 = tiles.decay_dot(x739, x741, f1, strict=True)
    del f1, x739
    f1_2 = tiles.decay_factors(x96)
    x793 = tiles.decay_dot(r, x741, f1_2)
    del x741
    x794 = tiles.decay_dot(r, x742, f1_2)
    del f1_2, x742, x96
    x796 = tiles.inverse(x789)
    del x789
    x920 = x738[:, :, :, None] * x751
    del x738, x751
    x929 = xi[:, :, None] * x753
    del x753
    S_rows = scan.Rows(steps, H)
    x924_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x788_c,
        x920_c,
        x796_c,
        x125_c,
        x754_c,
        v_c,
        x929_c,
    ) in scan.each(
        steps,
        H,
        (
            x788,
            x920,
            x796,
            x125[:, :, :, None],
            x754.mT,
            v,
            x929.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x922 = torch.baddbmm(x788_c, x920_c, S)
        x924 = torch.bmm(x796_c, x922, out=x924_rows.room(n))
        x931 = scan.addmm(scan.scale(S, x125_c, own), x754_c, v_c)
        x931 = scan.addmm(x931, x929_c, x924, -1)
        if keep:
            x924_rows.put(x924)
        S = x931
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x924 = x924_rows.joined()
    del S_rows
    del x924_rows
    del x125, x754, x788, x920, x929
    return (), (S_end,), (S, x787, x793, x794, x796, x924) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x787, x793, x794, x796, x797) = kept
    (do, dbonus) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    x13 = math.exp(-0.5)
    x14 = w + w0[:, :, None]
    x15 = torch.sigmoid(x14)
    del x14
    x16 = x15 * -1 * x13
    x19 = torch.sigmoid(a_)
    x20 = xi[:, :, None] * k
    x32 = torch.addcmul(-mix[:, :, None], mix[:, :, None], x19)
    x32 = x32 + 1
    x33 = k * x32
    x95 = x16 * tiles.LOG2E
    del x16
    x96 = torch.where(valid[:, :, :, None] > 0, x95, 0)
    del x95
    x97 = tiles.prefix_sum(x96, 2, exclusive=True)
    x98 = torch.exp2(x97)
    del x97
    x100 = k * x98
    x110 = tiles.prefix_sum(x96, 2)
    x111 = torch.exp2(x110)
    del x110
    x112 = r * x111
    x120 = tiles.suffix_sum(x96, 2, exclusive=True)
    x121 = torch.exp2(x120)
    del x120
    x124 = x96.sum(2)
    x125 = torch.exp2(x124)
    del x124
    x175 = tiles.LN2
    x185 = do @ v.mT
    f1 = tiles.decay_factors(x96)
    x189 = tiles.decay_dot_columns(x185, r, f1)
    del x189
    x200 = do @ S.mT
    x244 = tiles.LOG2E
    x247 = v * dbonus
    x248 = x247.sum(3)
    del x247
    x333 = -x19 + 1
    x389 = x19 * x333
    del x333
    x399 = -x15 + 1
    x400 = x15 * x399
    del x15, x399
    x704 = k * x19
    x705 = k * x121
    x706 = r * k
    x707 = x121 * x704
    x708 = k * k
    x709 = r * x704
    x712 = x32 * x705
    x717 = mix * rho
    x719 = xi * xi
    x724 = x13 * x244
    x733 = x248[:, :, :, None] * x706
    x735 = x719[:, :, None] * x708
    x736 = x735.sum(3)
    del x735
    x737 = x736 + 1e-06
    del x736
    x738 = torch.rsqrt(x737)
    del x737
    x739 = x738[:, :, :, None] * x20
    x740 = valid * x738
    x741 = tiles.product(x704, (xi * -1)[:, :, None], x740[:, :, :, None])
    x742 = valid[:, :, :, None] * x33
    x743 = x717[:, :, None] * x709
    x744 = x743.sum(3)
    del x743
    x745 = x717[:, :, None] * x706
    x746 = x745.sum(3)
    del x745
    x747 = rho[:, :, None] * x706
    del x706
    x748 = x747.sum(3)
    del x747
    x749 = x744 + x748 - x746
    del x744, x746, x748
    x751 = xi[:, :, None] * x100
    x753 = x740[:, :, :, None] * x707
    x760 = xi[:, :, None] * x707
    x762 = x112 * x200 * x175
    x763 = tiles.suffix_sum(x762, 2)
    del x762
    x765 = x749[:, :, :, None] * dbonus
    del x749
    x766 = x733.sum(2)
    x767 = tiles.product(x704, x248[:, :, :, None], x717[:, :, None])
    x768 = tiles.product(r, x19, x248[:, :, :, None], x717[:, :, None])
    x769 = x717[:, :, None] * x733
    del x733
    x770 = x248[:, :, :, None] * x709
    del x709
    x771 = x770.sum(2)
    del x770
    x772 = rho * x771
    x779 = tiles.addcmul_(torch.addcmul(x766, mix, x771), mix, x766, -1)
    del x771
    x780 = rho * x766
    del x766
    x782 = tiles.addcmul_(rho[:, :, None] * x248[:, :, :, None], x248[:, :, :, None], x717[:, :, None], -1)
    del x248, x717
    x783 = r * x782
    x804 = x738[:, :, :, None] * x100
    x805 = x794.mT @ do
    x806, x189_2, x807 = tiles.decay_dot_grads(x185, r, x742, f1)
    del x185
    x808 = x793.mT @ do
    x823 = do @ x797.mT
    x824, x825, x826 = tiles.decay_dot_grads(x823, r, x741, f1)
    del f1, x823
    x862 = x738 * x738
    x863 = x738 * x862
    del x862
    x919 = tiles.addcmul_(x767 + x806 + x824, x111, x200)
    x919 = tiles.addcmul_(x919, k, x782)
    del x111, x200, x767, x782, x806, x824
    x948 = x740[:, :, :, None] * x760
    del x760
    x965 = xi[:, :, None] * x804
    del x804
    x145_rows = scan.Rows(steps, H, True)
    x174_rows = scan.Rows(steps, H, True)
    x756_rows = scan.Rows(steps, H, True)
    x814_rows = scan.Rows(steps, H, True)
    x951_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x948_c,
        x808_c,
        x796_c,
        v_c,
        S_c,
        x712_c,
        x797_c,
        x125_c,
        x112_c,
        do_c,
        x965_c,
    ) in scan.each(
        steps,
        H,
        (
            x948,
            x808,
            x796.mT,
            v,
            S,
            x712,
            x797,
            x125[:, :, :, None],
            x112.mT,
            do,
            x965.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x950 = torch.baddbmm(x808_c, x948_c, dS, alpha=-1)
        x951 = torch.bmm(x796_c, x950, out=x951_rows.room(n))
        x145 = torch.bmm(v_c, dS.mT, out=x145_rows.room(n))
        x173 = S_c * dS
        x174 = x173.sum(2)
        x756 = torch.bmm(x712_c, dS, out=x756_rows.room(n))
        x814 = torch.bmm(x797_c, dS.mT, out=x814_rows.room(n))
        x1017 = scan.addmm(scan.scale(dS, x125_c, own), x112_c, do_c)
        x1017 = scan.addmm(x1017, x965_c, x951)
        x145_rows.put(x145)
        x174_rows.put(x174)
        x756_rows.put(x756)
        x814_rows.put(x814)
        x951_rows.put(x951)
        dS = x1017
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x145 = x145_rows.joined()
    x174 = x174_rows.joined()
    x756 = x756_rows.joined()
    x814 = x814_rows.joined()
    x951 = x951_rows.joined()
    del x145_rows
    del x174_rows
    del x756_rows
    del x814_rows
    del x951_rows
    del x112, x712, x808, x948, x965
    x177 = x125 * x174 * x175
    del x125, x174
    x178 = x177[:, :, None].expand(-1, -1, C, -1)
    del x177
    x714 = x145 * x705
    x726 = valid[:, :, :, None] * x145
    del x145
    x730 = valid[:, :, :, None] * x714
    del x714
    x758 = tiles.product(x32, x121, x726)
    x774 = x730.sum(2)
    x775 = x707 * x726
    x777 = x775.sum(2)
    del x775
    x815 = xi[:, :, None] * x814
    x816 = x707 * x815
    del x707
    x817 = x816.sum(3)
    del x816
    x818 = x740[:, :, :, None] * x815
    del x815
    x820 = tiles.addcmul_(x33 * x726, x704, x818, -1)
    del x33, x726
    x821 = x121 * x820 * x175
    del x820
    x822 = tiles.prefix_sum(x821, 2, exclusive=True)
    del x821
    x899 = torch.addcmul(x769, mix[:, :, None], x730)
    x899 = tiles.addcmul_(x899, x705, x818, -1)
    del x705, x730, x769
    x913 = tiles.product(x19, x121, x818)
    del x121, x818
    x932 = x753 * x814
    del x753, x814
    x933 = x932.sum(2)
    del x932
    x953 = x951 @ x797.mT
    x954 = x953.tril(-1)
    del x953
    f1_2 = tiles.decay_factors(x96, exclusive=True)
    x955, x956, x957 = tiles.decay_dot_grads(x954, x739, x741, f1_2, strict=True)
    del x741, x954, x96
    x958 = x951 @ v.mT
    x959 = x787.mT @ x951
    x960, x961, x962 = tiles.decay_dot_grads(x958, x739, x742, f1_2, strict=True)
    del f1_2, x739, x742, x958
    x963 = x951 @ S.mT
    del x951
    x967 = tiles.product(x98, x963, xi[:, :, None], x738[:, :, :, None])
    del x98
    x968 = x100 * x963
    del x100
    x969 = x738[:, :, :, None] * x968
    del x968
    x970 = x969.sum(2)
    x971 = (xi * x175)[:, :, None] * x969
    del x969
    x972 = tiles.suffix_sum(x971, 2, exclusive=True)
    del x971
    x973 = x178 + x763 + x807 + x822 + x826 + x957 + x962
    x973 = x973 + x972
    del x178, x763, x807, x822, x826, x957, x962, x972
    x975 = x825 + x956
    del x825, x956
    x976 = x975 * x704
    x977 = x740[:, :, :, None] * x976
    x979 = x977.sum(2)
    del x977
    x980 = xi[:, :, None] * x976
    del x976
    x981 = x980.sum(3)
    del x980
    x985 = x189_2 + x961
    del x189_2, x961
    x986 = k * x985
    x987 = valid[:, :, :, None] * x986
    del x986
    x989 = x987.sum(2)
    x990 = valid[:, :, :, None] * x985
    del x985
    x991 = x704 * x990
    del x704
    x993 = x991.sum(2)
    del x991
    x995 = x740[:, :, :, None] * x975
    del x740, x975
    x997 = tiles.addcmul_(mix[:, :, None] * x987, x20, x995, -1)
    del x20, x987
    x1000 = tiles.product(x19, x995, xi[:, :, None])
    del x19, x995
    x1001 = x955 + x960
    del x955, x960
    x1002 = tiles.product(x1001, xi[:, :, None], x738[:, :, :, None])
    x1003 = k * x1001
    del x1001
    x1004 = x738[:, :, :, None] * x1003
    del x738
    x1005 = xi[:, :, None] * x1003
    del x1003
    x1006 = x1004.sum(2)
    del x1004
    x1007 = x1005.sum(3)
    del x1005
    x1008 = torch.addcmul(x1007, valid, x817, value=-1)
    del x1007, x817
    x1009 = x1008 * x863
    del x1008
    x1010 = x1009[:, :, :, None] * x708
    x1011 = x1010.sum(2)
    del x1010
    x1012 = x400 * x973
    del x400, x973
    x1013 = valid[:, :, :, None] * x1012
    del x1012
    x1014 = x1013 * -1 * x724
    x1015 = x1013.sum(2)
    del x1013
    x1016 = x1015 * -1 * x724
    del x1015
    x1018 = x772 + x777 + x993 - x774 - x780 - x989
    del x772, x774, x777, x780, x989, x993
    x1020 = tiles.addcmul_(x389 * x997, x389, x899)
    del x389, x899, x997
    x1021 = tiles.addcmul_(x765 + x805 + x959, valid[:, :, :, None], x756)
    del x756, x765, x805, x959
    x1023 = x751 * x963
    del x751, x963
    x1024 = x1023.sum(3)
    del x1023
    x1025 = torch.addcmul(x1024, valid, x981, value=-1)
    del x1024, x981
    x1026 = x1025 * x863
    del x1025, x863
    x1028 = x719[:, :, None] * -1 * x1026[:, :, :, None]
    x1028 = tiles.addcmul_(x1028, x719[:, :, None], x1009[:, :, :, None], -1)
    del x1009, x719
    x1030 = x758 + x768 + x783 + x967 + x1002 - x1000
    x1030 = tiles.addcmul_(tiles.addcmul_(x1030 - x913, x32, x990), k, x1028)
    del x1000, x1002, x1028, x32, x758, x768, x783, x913, x967, x990
    x1031 = x1026[:, :, :, None] * x708
    del x1026, x708
    x1033 = x1031.sum(2)
    del x1031
    x1035 = tiles.addcmul_(x970 + x1006 - x933 - x979, xi, x1033, -1)
    x1035 = tiles.addcmul_(x1035, xi, x1011, -1)
    del x1006, x1011, x1033, x933, x970, x979
    return (x919, x1014, x1030, x1021, x1020, x1016, x1035, x1018, x779), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    H = h0[0].shape[1]
    x12 = math.exp(-0.5)
    x13 = w + w0
    x14 = torch.sigmoid(x13)
    del x13
    x18 = k * xi
    x27 = torch.sigmoid(a_)
    x32 = tiles.addcmul_(-mix, mix, x27) + 1
    x33 = k * x32
    del x32
    x155 = r * k
    x156 = mix * rho
    x158 = rho * x155
    x159 = x155 * x156
    del x155, x156
    x161 = k * x18
    x162 = x18 * x27
    x166 = x14 * x12
    del x14
    x170 = x166 * -1
    del x166
    x171 = torch.exp(x170)
    del x170
    x173 = xi * x161
    del x161
    x174 = x173.sum(2)
    del x173
    x175 = x174 + 1e-06
    del x174
    x176 = torch.rsqrt(x175)
    del x175
    x177 = x176[:, :, None] * x18
    del x18
    x179 = v[:, :, None] * x33[:, :, :, None]
    del x33
    x183 = x27 * x159
    del x27
    x184 = x183.sum(2)
    del x183
    x185 = x159.sum(2)
    del x159
    x186 = x158.sum(2)
    del x158
    x187 = x184 + x186 - x185
    del x184, x185, x186
    x188 = x187[:, :, None] * v
    del x187
    x240 = x176[:, :, None] * x162
    del x162, x176
    S_rows = scan.Rows(steps, H)
    x243_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x177_c,
        x171_c,
        x179_c,
        x240_c,
        r_c,
    ) in scan.each(
        steps,
        H,
        (
            x177,
            x171[:, :, :, None],
            x179,
            x240[:, :, :, None],
            r,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x178 = (x177_c[..., None, :] @ S).squeeze(-2)
        x242 = tiles.addcmul_(scan.scale(S, x171_c, own) + x179_c, x240_c, x178[:, None], -1)
        x243 = (r_c[..., None, :] @ x242).squeeze(-2)
        x243_rows.put(x243)
        S = x242
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x243 = x243_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x243_rows
    del x171, x177, x179, x240
    return (x243, x188), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, w, k, v, a_, w0, xi, mix, _) = args
    H = h0[0].shape[1]
    x12 = math.exp(-0.5)
    x13 = w + w0
    x14 = torch.sigmoid(x13)
    del x13
    x18 = k * xi
    x27 = torch.sigmoid(a_)
    x32 = tiles.addcmul_(-mix, mix, x27) + 1
    x33 = k * x32
    del x32
    x161 = k * x18
    x162 = x18 * x27
    del x27
    x166 = x14 * x12
    del x14
    x170 = x166 * -1
    del x166
    x171 = torch.exp(x170)
    del x170
    x173 = xi * x161
    del x161
    x174 = x173.sum(2)
    del x173
    x175 = x174 + 1e-06
    del x174
    x176 = torch.rsqrt(x175)
    del x175
    x177 = x176[:, :, None] * x18
    del x18
    x179 = v[:, :, None] * x33[:, :, :, None]
    del x33
    x240 = x176[:, :, None] * x162
    del x162, x176
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x177_c,
        x171_c,
        x179_c,
        x240_c,
    ) in scan.each(
        steps,
        H,
        (
            x177,
            x171[:, :, :, None],
            x179,
            x240[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x178 = (x177_c[..., None, :] @ S).squeeze(-2)
        x242 = tiles.addcmul_(scan.scale(S, x171_c, own) + x179_c, x240_c, x178[:, None], -1)
        S = x242
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x171, x177, x179, x240
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do, dbonus) = douts
    H = h0[0].shape[1]
    x12 = math.exp(-0.5)
    x13 = w + w0
    x14 = torch.sigmoid(x13)
    del x13
    x18 = k * xi
    x27 = torch.sigmoid(a_)
    x31 = mix * x27
    x32 = x31 - mix + 1
    x33 = k * x32
    x62 = v * dbonus
    x63 = x62.sum(2)
    del x62
    x64 = x63 * -1
    x81 = r[:, :, :, None] * do[:, :, None]
    x112 = -x27 + 1
    x141 = -x14 + 1
    x155 = r * k
    x156 = mix * rho
    x157 = k * x27
    x158 = rho * x155
    x159 = x155 * x156
    x160 = r * x156
    x161 = k * x18
    x162 = x18 * x27
    x165 = x63[:, :, None] * rho
    x166 = x14 * x12
    del x14
    x168 = x63[:, :, None] * x27
    x169 = x63[:, :, None] * x155
    x170 = x166 * -1
    x171 = torch.exp(x170)
    del x170
    x173 = xi * x161
    x174 = x173.sum(2)
    del x173
    x175 = x174 + 1e-06
    del x174
    x176 = torch.rsqrt(x175)
    del x175
    x177 = x176[:, :, None] * x18
    x178 = (x177[..., None, :] @ S).squeeze(-2)
    del x177
    x180 = (x176[:, :, None] * x178)[:, :, None] * x162[:, :, :, None]
    x181 = tiles.addcmul_(-x180, x171[:, :, :, None], S)
    x181 = tiles.addcmul_(x181, v[:, :, None], x33[:, :, :, None])
    del x180
    x183 = x27 * x159
    x184 = x183.sum(2)
    del x183
    x185 = x159.sum(2)
    x186 = x158.sum(2)
    x187 = x184 + x186 - x185
    del x184, x185, x186
    x189 = x187[:, :, None] * dbonus
    del x187
    x191 = r * x165
    x192 = tiles.product(k, x156, x64[:, :, None])
    x193 = x64[:, :, None] * x160
    x194 = x64[:, :, None] * x158
    x195 = tiles.product(mix, x155, x64[:, :, None])
    del x155, x64
    x196 = tiles.product(x156, x157, x63[:, :, None])
    del x156
    x197 = x160 * x168
    del x160
    x198 = x158 * x168
    del x158, x168
    x200 = x63[:, :, None] * x159
    del x159, x63
    x201 = (do[..., None, :] @ x181.mT).squeeze(-2)
    del x181
    x220 = x176 * x176
    x234 = tiles.addcmul_(x169 + x195, x31, x169)
    del x169, x195, x31
    x239 = tiles.addcmul_(x192 + x196 + x201, k, x165)
    del x165, x192, x196, x201
    x244 = x220[:, :, None] * x18
    x82_rows = scan.Rows(steps, H, True)
    x83_rows = scan.Rows(steps, H, True)
    x208_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x81_c,
        x162_c,
        x244_c,
        x171_c,
    ) in scan.each(
        steps,
        H,
        (
            x81,
            x162,
            x244[:, :, :, None],
            x171[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x82 = dS + x81_c
        x83 = -dS - x81_c
        x207 = x162_c[:, :, None] * x83
        x208 = x207.sum(1)
        x246 = tiles.addcmul_(x244_c * x208[:, None], x171_c, x82)
        x82_rows.put(x82)
        x83_rows.put(x83)
        x208_rows.put(x208)
        dS = x246
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x82 = x82_rows.joined()
    x83 = x83_rows.joined()
    x208 = x208_rows.joined()
    del x82_rows
    del x83_rows
    del x208_rows
    del x162, x244, x81
    x102 = v[:, :, None] * x82
    x103 = x102.sum(3)
    del x102
    x106 = k * x103
    x132 = S * x82
    x133 = x132.sum(3)
    del x132
    x202 = x178[:, :, None] * x83
    del x83
    x203 = x202.sum(3)
    del x202
    x204 = x176[:, :, None] * x203
    del x203
    x205 = tiles.product(xi, x27, x204)
    x209 = x178 * x208
    del x178
    x210 = x209.sum(2)
    del x209
    x211 = x176[:, :, None] * x208
    del x208
    x213 = x33[:, :, :, None] * x82
    del x33, x82
    x214 = x213.sum(2)
    del x213
    x217 = tiles.addcmul_(torch.addcmul(x200, x18, x204), mix, x106)
    del x200
    x218 = tiles.product(x27, x217, x112)
    del x112, x217, x27
    x219 = (x211[..., None, :] @ S.mT).squeeze(-2)
    del x211
    x222 = x176[:, :, None] * x219
    x225 = x18 * x219
    del x219
    x226 = x225.sum(2)
    del x225
    x227 = x210 + x226
    del x210, x226
    x228 = tiles.product(x176, x227, x220, (-0.5))
    del x176, x220, x227
    x229 = tiles.product(xi, x18, x228[:, :, None])
    del x18
    x232 = tiles.product(x171, x133, x141, x166, (-1))
    del x133, x141, x166, x171
    x235 = tiles.addcmul_(x194 + x198 - x106, x103, x157)
    del x106, x194, x198
    x236 = tiles.addcmul_(tiles.addcmul_(x157 * x204, k, x222), x228[:, :, None], x161, 2)
    del x157, x161, x204, x228
    x237 = x189 + x214
    del x189, x214
    x238 = torch.add(x191 + x193 + x197 + x205, x229, alpha=2)
    x238 = tiles.addcmul_(tiles.addcmul_(x238, x32, x103), xi, x222)
    del x103, x191, x193, x197, x205, x222, x229, x32
    return (x239, x232, x238, x237, x218, x232, x236, x235, x234), (dS_end,)
