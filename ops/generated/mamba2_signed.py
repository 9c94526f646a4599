"""mamba2_signed: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + delta * B @ u.T
o[t] = D * u + S[t].T @ C
  delta = softplus(dt + dt_bias)
  alpha = 2 * exp(-exp(A_log) * delta) - 1

In a chunk of C_ tokens with the incoming state S_in:
  D_ = alpha
  w = delta * B,  v = u
  q = C
  G[i] = D_[1] * ... * D_[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q * G) S_in
  S_out = G[C_] * S_in + (w * G[C_]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "mamba2_signed"
SPEC_HASH = "b75046ec372bc5beac9d4497514a1c510fb59caa0de6cd1bfca24e3763a1de68"
INPUTS = (("u", ("P",)), ("dt", ()), ("B", ("N",)), ("C", ("N",)))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("D", ()))
STATES = (("S", ("N", "P")),)
OUTPUTS = (("o", ("P",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    H = h0[0].shape[1]
    x11 = torch.exp(A_log)
    x12 = dt + dt_bias[:, :, None]
    x13 = tiles.softplus(x12)
    del x12
    x14 = (x11 * -1)[:, :, None] * x13
    del x11
    x15 = torch.exp(x14)
    del x14
    x17 = 2 * x15 + -1
    del x15
    x18 = torch.where(valid > 0, x17, 1)
    del x17
    x21 = tiles.running_product(x18, 2, "prefix")
    x31 = tiles.path(x18)
    x32 = C_ @ B.mT
    x36 = x31 * x32
    del x31, x32
    x39 = D[:, :, None, None] * u
    x41 = tiles.running_product(x18, 2, "suffix", exclusive=True)
    x42 = tiles.running_product(x18, 2, "suffix")
    del x18
    x43 = x42[:, :, 0]
    del x42
    x167 = valid * x13
    x168 = valid * x13
    del x13
    x169 = x41 * x167
    del x167, x41
    x171 = x169[:, :, :, None] * B
    del x169
    x186 = x168[:, :, None] * x36
    del x168, x36
    x187 = x186 @ u
    del x186
    x207 = x21[:, :, :, None] * C_
    del x21
    S_rows = scan.Rows(steps, H)
    x209_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x207_c,
        x39_c,
        x187_c,
        x43_c,
        x171_c,
        u_c,
    ) in scan.each(
        steps,
        H,
        (
            x207,
            x39,
            x187,
            x43[:, :, None, None],
            x171.mT,
            u,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x209 = scan.addmm(x39_c + x187_c, x207_c, S)
        x173 = scan.addmm(scan.scale(S, x43_c, own), x171_c, u_c)
        x209_rows.put(x209)
        S = x173
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x209 = x209_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x209_rows
    del x171, x187, x207, x39, x43
    return (x209,), (S_end,), (S,) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
    H = h0[0].shape[1]
    x11 = torch.exp(A_log)
    x12 = dt + dt_bias[:, :, None]
    x13 = tiles.softplus(x12)
    del x12
    x14 = (x11 * -1)[:, :, None] * x13
    del x11
    x15 = torch.exp(x14)
    del x14
    x17 = 2 * x15 + -1
    del x15
    x18 = torch.where(valid > 0, x17, 1)
    del x17
    x41 = tiles.running_product(x18, 2, "suffix", exclusive=True)
    x42 = tiles.running_product(x18, 2, "suffix")
    del x18
    x43 = x42[:, :, 0]
    del x42
    x167 = valid * x13
    del x13
    x169 = x41 * x167
    del x167, x41
    x171 = x169[:, :, :, None] * B
    del x169
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x43_c, x171_c, u_c) in scan.each(steps, H, (x43[:, :, None, None], x171.mT, u)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x173 = scan.addmm(scan.scale(S, x43_c, own), x171_c, u_c)
        S = x173
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x171, x43
    return (), (S_end,), (S,) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    x11 = torch.exp(A_log)
    x12 = dt + dt_bias[:, :, None]
    x13 = tiles.softplus(x12)
    x14 = (x11 * -1)[:, :, None] * x13
    x15 = torch.exp(x14)
    del x14
    x17 = 2 * x15 + -1
    x18 = torch.where(valid > 0, x17, 1)
    del x17
    x21 = tiles.running_product(x18, 2, "prefix")
    x31 = tiles.path(x18)
    x32 = C_ @ B.mT
    x36 = x31 * x32
    x41 = tiles.running_product(x18, 2, "suffix", exclusive=True)
    x42 = tiles.running_product(x18, 2, "suffix")
    x43 = x42[:, :, 0]
    x71 = D[:, :, None, None] * do
    x72 = u * do
    x73 = x72.sum(2)
    del x72
    x74 = x73.sum(2)
    del x73
    x76 = do @ u.mT
    x78 = x36.mT @ do
    x91 = x31 * x76
    del x31
    x94 = x91.mT @ C_
    x101 = torch.sigmoid(x12)
    del x12
    x107 = x21[:, :, :, None] * do
    x110 = do @ S.mT
    x167 = valid * x13
    x168 = valid * x13
    del x13
    x169 = x41 * x167
    x178 = x167[:, :, :, None] * x78
    del x78
    x179 = x36 * x76
    del x36
    x180 = x179.sum(2)
    del x179
    x182 = tiles.product(valid, x180, x101)
    del x180
    x183 = x167[:, :, :, None] * x94
    del x94
    x189 = tiles.product(x32, x76, x168[:, :, None])
    del x32, x76
    x190 = x168[:, :, None] * x91
    del x168, x91
    x192 = tiles.path_grad(x18, x189)
    del x189
    x194 = x182.sum(2)
    x205 = tiles.addmm_(x21[:, :, :, None] * x110, x190, B)
    del x190
    x210 = C_ * x110
    del x110
    x211 = x210.sum(3)
    del x210
    x212 = tiles.running_product_grad(x18, x211, 2, "prefix")
    del x21, x211
    x51_rows = scan.Rows(steps, H, True)
    x53_rows = scan.Rows(steps, H, True)
    x66_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        u_c,
        B_c,
        S_c,
        x43_c,
        C__c,
        x107_c,
    ) in scan.each(
        steps,
        H,
        (
            u,
            B,
            S,
            x43[:, :, None, None],
            C_.mT,
            x107,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x51 = torch.bmm(u_c, dS.mT, out=x51_rows.room(n))
        x53 = torch.bmm(B_c, dS, out=x53_rows.room(n))
        x65 = S_c * dS
        x66 = x65.sum(1)
        x131 = scan.addmm(scan.scale(dS, x43_c, own), C__c, x107_c)
        x51_rows.put(x51)
        x53_rows.put(x53)
        x66_rows.put(x66)
        dS = x131
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x51 = x51_rows.joined()
    x53 = x53_rows.joined()
    x66 = x66_rows.joined()
    del x51_rows
    del x53_rows
    del x66_rows
    del x107, x43
    x59 = B * x51
    x60 = x59.sum(3)
    del x59
    x62 = tiles.product(valid, x41, x60)
    x67 = x66.sum(2)
    del x66
    x68 = tiles.at_first(x67, C)
    del x67
    x69 = tiles.running_product_grad(x18, x68, 2, "suffix")
    del x42, x68
    x176 = x60 * x167
    del x60
    x177 = tiles.running_product_grad(x18, x176, 2, "suffix", exclusive=True)
    del x176, x18, x41
    x184 = torch.addcmul(x183, x169[:, :, :, None], x51)
    del x183, x51
    x185 = tiles.addcmul_(x71 + x178, x169[:, :, :, None], x53)
    del x169, x178, x53, x71
    x213 = x69 + x177 + x212 + x192
    del x177, x192, x212, x69
    x214 = x15 * x213
    del x15, x213
    x215 = tiles.product(valid, x214, x11[:, :, None])
    x216 = torch.add(x62, x215, alpha=-2)
    del x215, x62
    x217 = x101 * x216
    del x101, x216
    x218 = x182 + x217
    del x182
    x219 = x167 * x214
    del x167, x214
    x220 = x219.sum(2)
    del x219
    x221 = x11 * x220 * -2
    del x11, x220
    x222 = x217.sum(2)
    del x217
    x223 = x194 + x222
    del x194, x222
    return (x185, x218, x184, x205, x221, x223, x74), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias
    x12 = tiles.softplus(x11)
    del x11
    x19 = (x12[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    x22 = D[:, :, None] * u
    x62 = x10 * x12
    del x10, x12
    x63 = x62 * -1
    del x62
    x64 = torch.exp(x63)
    del x63
    x65 = 2 * x64 + -1
    del x64
    S_rows = scan.Rows(steps, H)
    x69_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x65_c, x19_c, C__c, x22_c) in scan.each(steps, H, (x65[:, :, None, None], x19, C_, x22)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x67 = scan.scale(S, x65_c, own) + x19_c
        x68 = (C__c[..., None, :] @ x67).squeeze(-2)
        x69 = x68 + x22_c
        x69_rows.put(x69)
        S = x67
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x69 = x69_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x69_rows
    del x19, x22, x65
    return (x69,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias
    x12 = tiles.softplus(x11)
    del x11
    x19 = (x12[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    x62 = x10 * x12
    del x10, x12
    x63 = x62 * -1
    del x62
    x64 = torch.exp(x63)
    del x63
    x65 = 2 * x64 + -1
    del x64
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x65_c, x19_c) in scan.each(steps, H, (x65[:, :, None, None], x19)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x67 = scan.scale(S, x65_c, own) + x19_c
        S = x67
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x19, x65
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x10 = torch.exp(A_log)
    x11 = dt + dt_bias
    x12 = tiles.softplus(x11)
    x19 = (x12[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    x26 = D[:, :, None] * do
    x27 = u * do
    x28 = x27.sum(2)
    del x27
    x31 = C_[:, :, :, None] * do[:, :, None]
    x55 = torch.sigmoid(x11)
    del x11
    x62 = x10 * x12
    x63 = x62 * -1
    x64 = torch.exp(x63)
    del x63
    x65 = 2 * x64 + -1
    x67 = torch.addcmul(x19, x65[:, :, None, None], S)
    del x19
    x70 = (do[..., None, :] @ x67.mT).squeeze(-2)
    del x67
    x32_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (x31_c, x65_c) in scan.each(steps, H, (x31, x65), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x32 = dS + x31_c
        x71 = x65_c[:, None, None] * x32
        x32_rows.put(x32)
        dS = x71
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x32 = x32_rows.joined()
    del x32_rows
    del x31, x65
    x36 = B[:, :, :, None] * x32
    x37 = x36.sum(2)
    del x36
    x39 = u[:, :, None] * x32
    x40 = x39.sum(3)
    del x39
    x41 = x12[:, :, None] * x40
    del x40
    x42 = u * x37
    x43 = x42.sum(2)
    del x42
    x45 = S * x32
    del x32
    x46 = x45.sum(2)
    del x45
    x47 = x46.sum(2)
    del x46
    x60 = torch.addcmul(x26, x12[:, :, None], x37)
    del x12, x26, x37
    x72 = x64 * x47
    del x47, x64
    x74 = torch.addcmul(x43, x10, x72, value=-2)
    del x10, x43
    x75 = x74 * x55
    del x55, x74
    x76 = x72 * x62 * -2
    del x62, x72
    return (x60, x75, x41, x70, x76, x75, x28), (dS_end,)
