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

from rnnc.ops import scan, tiles

NAME = "gated_delta_net"
SPEC_HASH = "ff87af21b8d76f88cd738056d1fbc685dd8525fd65df1b2819552ac80851fa19"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()))
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
    x723 = x611[:, :, :, None] * q
    del x611
    x725 = x592[:, :, :, None] * k
    del x592
    x732 = x608[:, :, :, None] * x628
    del x608, x628
    S_rows = scan.Rows(steps, H)
    x729_rows = scan.Rows(steps, H)
    x734_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x725_c,
        x629_c,
        x723_c,
        x732_c,
        x106_c,
        x613_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x725,
            x629,
            x723,
            x732,
            x106[:, :, None, None],
            x613.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x727 = torch.baddbmm(v_c, x725_c, S, alpha=-1)
        x729 = torch.bmm(x629_c, x727, out=x729_rows.room(n))
        x734 = torch.bmm(x723_c, S, out=x734_rows.room(n))
        x734 = scan.addmm(x734, x732_c, x729, 2)
        x736 = scan.addmm(scan.scale(S, x106_c, own), x613_c, x729, 2)
        if keep:
            x729_rows.put(x729)
        x734_rows.put(x734)
        S = x736
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x734 = x734_rows.joined()
    if keep:
        S = S_rows.joined()
        x729 = x729_rows.joined()
    del S_rows
    del x729_rows
    del x734_rows
    del x106, x613, x723, x725, x732
    return (x734,), (S_end,), (S, x629, x729) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
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
    x725 = x592[:, :, :, None] * k
    del x592
    S_rows = scan.Rows(steps, H)
    x729_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        v_c,
        x725_c,
        x629_c,
        x106_c,
        x613_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x725,
            x629,
            x106[:, :, None, None],
            x613.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x727 = torch.baddbmm(v_c, x725_c, S, alpha=-1)
        x729 = torch.bmm(x629_c, x727, out=x729_rows.room(n))
        x736 = scan.addmm(scan.scale(S, x106_c, own), x613_c, x729, 2)
        if keep:
            x729_rows.put(x729)
        S = x736
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        x729 = x729_rows.joined()
    del S_rows
    del x729_rows
    del x106, x613, x725
    return (), (S_end,), (S, x629, x729) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, _, a_, b_, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x629, x630) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
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
    x101 = tiles.suffix_sum(x83, 2, exclusive=True)
    x102 = torch.exp2(x101)
    del x101
    x105 = x83.sum(2)
    del x83
    x106 = torch.exp2(x105)
    del x105
    x135 = tiles.LN2
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
    x621 = x593[:, :, :, None] * do
    x628 = x590[:, :, None] * x97
    del x97
    x637 = x592[:, :, :, None] * k
    x646 = do @ x630.mT
    x647 = x646 * x606
    del x606
    x648 = x647.sum(2)
    del x647
    x663 = tiles.product(x63, x646, x590[:, :, None], x608[:, :, :, None])
    del x63
    x672 = x87 * x646
    x673 = x590[:, :, None] * x672
    x674 = x673 @ k
    del x673
    x675 = x57[:, :, :, None] * x672
    del x57, x672
    x676 = x675.mT @ q
    del x675
    x683 = x648 * x53
    del x648
    x684 = x595 * x683
    x688 = x587 * x683
    del x683
    x693 = x610[:, :, :, None] * x676
    del x610, x676
    x737 = q * x251
    x738 = x737.sum(3)
    del x737
    x739 = x85 * x738 * x53
    x744 = x738 * x593 * x601
    del x593, x738
    x756 = x628 * x646
    del x628, x646
    x757 = x756.sum(3)
    del x756
    x758 = x757 * x53
    del x757
    x759 = torch.add(x739, x758, alpha=2)
    del x739, x758
    x760 = x603 * x759
    del x603, x759
    x762 = tiles.addcmul_(x611[:, :, :, None] * x251, x608[:, :, :, None], x674, 2)
    x762 = tiles.addcmul_(x762, x760[:, :, :, None], q, -1)
    del x251, x608, x611, x674, x760
    x783 = x591[:, :, :, None] * k
    x133_rows = scan.Rows(steps, H, True)
    x638_rows = scan.Rows(steps, H, True)
    x786_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        x783_c,
        x617_c,
        x629_c,
        S_c,
        x630_c,
        x106_c,
        q_c,
        x621_c,
        x637_c,
    ) in scan.each(
        steps,
        H,
        (
            x783,
            x617,
            x629.mT,
            S,
            x630,
            x106[:, :, None, None],
            q.mT,
            x621,
            x637.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x785 = torch.baddbmm(x617_c, x783_c, dS, beta=2, alpha=2)
        x786 = torch.bmm(x629_c, x785, out=x786_rows.room(n))
        x132 = S_c * dS
        x133 = x132.sum(1)
        x638 = torch.bmm(x630_c, dS.mT, out=x638_rows.room(n))
        x815 = scan.addmm(scan.scale(dS, x106_c, own), q_c, x621_c, x53)
        x815 = scan.addmm(x815, x637_c, x786, -1)
        x133_rows.put(x133)
        x638_rows.put(x638)
        x786_rows.put(x786)
        dS = x815
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x133 = x133_rows.joined()
    x638 = x638_rows.joined()
    x786 = x786_rows.joined()
    del x133_rows
    del x638_rows
    del x786_rows
    del x617, x621, x637, x783
    x134 = x133.sum(2)
    del x133
    x137 = x106 * x134 * x135
    del x106, x134
    x138 = x137[:, :, None].expand(-1, -1, C)
    del x137
    x639 = k * x638
    x640 = x639.sum(3)
    del x639
    x641 = x640 * x591
    x642 = x641 * 2 * x135
    x643 = tiles.prefix_sum(x642, 2, exclusive=True)
    del x642
    x698 = tiles.product(x102, x640, x587)
    del x102, x640
    x788 = x786 @ x630.mT
    x789 = x788.tril(-1)
    del x788
    x790 = x87 * x789
    x791 = x43 * x790
    del x43
    x792 = x590[:, :, None] * x791
    x793 = x792.sum(3)
    del x792
    x794 = x22[:, :, :, None] * x791
    del x791
    x795 = x794.sum(2)
    del x794
    x798 = tiles.addcmul_(2 * x663, x789, x607, -2)
    del x607, x663, x789
    x799 = x87 * x798 * x135
    del x798, x87
    x800 = tiles.segment_sum_grad(x799)
    del x799
    x801 = x590[:, :, None] * x790
    del x590
    x802 = x801 @ k
    del x801
    x803 = x22[:, :, :, None] * x790
    del x790
    x804 = x803.mT @ k
    del x803
    x806 = tiles.addcmul_(2 * x684, x795, x595, -2)
    del x595, x684
    x807 = tiles.product(x17, x312, x806)
    del x17, x806
    x811 = x786 @ S.mT
    x813 = torch.add(-2 * x793, x698, alpha=2)
    del x698, x793
    x816 = torch.addcmul(x807, x312, x641, value=2)
    del x312, x641, x807
    x819 = k * x811
    x820 = x819.sum(3)
    del x819
    x822 = tiles.addcmul_(tiles.addcmul_(2 * x688, x85, x820, -1), x795, x587, -2)
    del x587, x688, x795, x85
    x824 = tiles.addcmul_(x813 * -1 * x597, x822, x597, -1)
    del x597, x813, x822
    x826 = tiles.addcmul_(2 * x693, x824[:, :, :, None], k)
    x826 = tiles.addcmul_(x826, x588[:, :, :, None], x804, -2)
    x826 = tiles.addcmul_(x826, x591[:, :, :, None], x638, 2)
    x826 = tiles.addcmul_(x826, x22[:, :, :, None], x802, -2)
    x826 = tiles.addcmul_(x826, x592[:, :, :, None], x811, -1)
    del x22, x588, x591, x638, x693, x802, x804, x811, x824
    x827 = x820 * x592 * x135
    del x592, x820
    x828 = x744 - x827
    del x744, x827
    x829 = tiles.suffix_sum(x828, 2)
    del x828
    x830 = x138 + x643 + x800 + x829
    del x138, x643, x800, x829
    x831 = valid * x830
    del x830
    x832 = x363 * x831
    del x363
    x833 = (x600 * -1)[:, :, None] * x832
    x834 = x12 * x831
    del x12, x831
    x835 = x834.sum(2)
    del x834
    x836 = x835 * x600 * -1
    del x835
    x837 = x832.sum(2)
    del x832
    x838 = x837 * x600 * -1
    del x600, x837
    return (x762, x826, x786, x833, x816, x836, x838), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, A_log, dt_bias) = args
    K = q.shape[2]
    H = h0[0].shape[1]
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
    x196 = x139[:, :, None] * k
    del x139
    S_rows = scan.Rows(steps, H)
    x199_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x149_c,
        v_c,
        x146_c,
        x196_c,
        x144_c,
    ) in scan.each(
        steps,
        H,
        (
            x149,
            v,
            x146[:, :, None, None],
            x196[:, :, :, None],
            x144,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x150 = (x149_c[..., None, :] @ S).squeeze(-2)
        x151 = v_c + x150
        x198 = tiles.addcmul_(scan.scale(S, x146_c, own), x196_c, x151[:, None], 2)
        x199 = (x144_c[..., None, :] @ x198).squeeze(-2)
        x199_rows.put(x199)
        S = x198
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x199 = x199_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x199_rows
    del x144, x146, x149, x196
    return (x199,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, A_log, dt_bias) = args
    H = h0[0].shape[1]
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
    x196 = x139[:, :, None] * k
    del x139
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x149_c,
        v_c,
        x146_c,
        x196_c,
    ) in scan.each(
        steps,
        H,
        (
            x149,
            v,
            x146[:, :, None, None],
            x196[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x150 = (x149_c[..., None, :] @ S).squeeze(-2)
        x151 = v_c + x150
        x198 = tiles.addcmul_(scan.scale(S, x146_c, own), x196_c, x151[:, None], 2)
        S = x198
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x146, x149, x196
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
    x148 = x146 * x19
    x149 = (x148 * -1)[:, :, None] * k
    x150 = (x149[..., None, :] @ S).squeeze(-2)
    del x149
    x151 = v + x150
    del x150
    x152 = (x139[:, :, None] * k)[:, :, :, None] * x151[:, :, None]
    x153 = tiles.addcmul_(2 * x152, x146[:, :, None, None], S)
    del x152
    x155 = (do[..., None, :] @ x153.mT).squeeze(-2)
    del x153
    x156 = do[:, :, None] * x144[:, :, :, None]
    del x144
    x158 = q * x155
    x159 = x158.sum(2)
    del x158
    x160 = tiles.product(x36, x36, x159, x140, (-0.5))
    del x159, x36
    x190 = x139 * x148
    x195 = tiles.addcmul_(x140[:, :, None] * x155, x160[:, :, None], q, 2)
    del x140, x155, x160
    x200 = x190[:, :, None] * k
    del x190
    x162_rows = scan.Rows(steps, H, True)
    x163_rows = scan.Rows(steps, H, True)
    x168_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        x156_c,
        k_c,
        x146_c,
        x200_c,
    ) in scan.each(
        steps,
        H,
        (
            x156,
            k,
            x146[:, :, None, None],
            x200[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x162 = dS + x156_c
        x163 = torch.add(2 * dS, x156_c, alpha=2)
        x167 = k_c[:, :, None] * x163
        x168 = x167.sum(1)
        x202 = tiles.addcmul_(x146_c * x162, x200_c, x168[:, None], -1)
        x162_rows.put(x162)
        x163_rows.put(x163)
        x168_rows.put(x168)
        dS = x202
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x162 = x162_rows.joined()
    x163 = x163_rows.joined()
    x168 = x168_rows.joined()
    del x162_rows
    del x163_rows
    del x168_rows
    del x156, x200
    x164 = x151[:, :, None] * x163
    del x163
    x165 = x164.sum(3)
    del x164
    x169 = x151 * x168
    del x151
    x170 = x169.sum(2)
    del x169
    x172 = x139[:, :, None] * x168
    del x168
    x173 = tiles.product(x170, x94, x139)
    del x94
    x174 = (x172[..., None, :] @ S.mT).squeeze(-2)
    x175 = k * x174
    x176 = x175.sum(2)
    del x175
    x178 = tiles.addcmul_(x26 * x170, x146, x176, -1)
    del x170, x26
    x179 = tiles.product(x19, x19, x19, x178, (-0.5))
    del x178
    x182 = S * x162
    del x162
    x183 = x182.sum(2)
    del x182
    x184 = x183.sum(2)
    del x183
    x186 = torch.addcmul(x184, x19, x176, value=-1)
    del x176, x184, x19
    x187 = x146 * x186
    del x146, x186
    x188 = tiles.product(x9, x187, x127, (-1))
    del x127, x9
    x189 = x187 * x142 * -1
    del x142, x187
    x194 = tiles.addcmul_(x139[:, :, None] * x165, x179[:, :, None], k, 2)
    x194 = tiles.addcmul_(x194, x148[:, :, None], x174, -1)
    del x139, x148, x165, x174, x179
    return (x195, x194, x172, x188, x173, x189, x188), (dS_end,)
