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
    log2_D_1 = math.exp(-0.5)
    log2_D_2 = w + w0[:, :, None]
    log2_D_3 = tiles.apply_(torch.sigmoid_, log2_D_2)
    del log2_D_2
    log2_D_4 = log2_D_3 * -1 * log2_D_1
    del log2_D_3
    rate = tiles.apply_(torch.sigmoid_, a_)
    k_scaled = xi[:, :, None] * k
    key_1 = torch.addcmul(-mix[:, :, None], mix[:, :, None], rate)
    key_1 = key_1 + 1
    key = k * key_1
    log2_D_5 = log2_D_4 * tiles.LOG2E
    del log2_D_4
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_5, 0)
    del log2_D_5
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    k_G_before = tiles.product_(G_before, k)
    del G_before
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    rG = tiles.product_(G, r)
    del G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_rate = tiles.product_(rate, k)
    del rate
    k_G_after = k * G_after
    rk = r * k
    G_after_k_rate = tiles.product_(G_after, k_rate)
    del G_after
    k_squared = k * k
    r_k_rate = r * k_rate
    key_G_after = tiles.product_(key_1, k_G_after)
    del k_G_after, key_1
    mix_rho = mix * rho
    xi_squared = xi * xi
    k_squared_scaled = tiles.scale_(k_squared, xi_squared[:, :, None])
    del k_squared, xi_squared
    kappa_1 = k_squared_scaled.sum(3)
    del k_squared_scaled
    kappa_2 = kappa_1 + 1e-06
    del kappa_1
    kappa_3 = torch.rsqrt(kappa_2)
    del kappa_2
    kappa = tiles.scale_(k_scaled, kappa_3[:, :, :, None])
    del k_scaled
    w1_1 = valid * kappa_3
    w1 = tiles.product_(k_rate, xi[:, :, None], w1_1[:, :, :, None], -1)
    del k_rate
    key_ = tiles.scale_(key, valid[:, :, :, None])
    del key
    r_k_rate_scaled = tiles.scale_(r_k_rate, mix_rho[:, :, None])
    del r_k_rate
    bonus_1 = r_k_rate_scaled.sum(3)
    del r_k_rate_scaled
    rk_scaled = mix_rho[:, :, None] * rk
    del mix_rho
    rk_scaled_sum = rk_scaled.sum(3)
    del rk_scaled
    rk_scaled_2 = tiles.scale_(rk, rho[:, :, None])
    del rk
    rk_scaled_sum_2 = rk_scaled_2.sum(3)
    del rk_scaled_2
    bonus_2 = bonus_1 + rk_scaled_sum_2 - rk_scaled_sum
    del bonus_1, rk_scaled_sum, rk_scaled_sum_2
    bonus = bonus_2[:, :, :, None] * v
    del bonus_2
    k_G_before_scaled = tiles.scale_(k_G_before, xi[:, :, None])
    del k_G_before
    key_G_after_scaled = tiles.scale_(key_G_after, valid[:, :, :, None])
    del key_G_after
    S_new_1 = tiles.scale_(G_after_k_rate, w1_1[:, :, :, None])
    del G_after_k_rate, w1_1
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    P_rp = tiles.decay_dot(kappa, key_, f1, strict=True)
    P_rp_v = P_rp @ v
    P = tiles.decay_dot(kappa, w1, f1, strict=True)
    del f1, kappa
    f1_2 = tiles.decay_factors(log2_D)
    A_2 = tiles.decay_dot(r, w1, f1_2)
    del w1
    A = tiles.decay_dot(r, key_, f1_2)
    del f1_2, key_, log2_D
    inv = tiles.inverse(P)
    del P
    U_1 = kappa_3[:, :, :, None] * k_G_before_scaled
    S_new_2 = tiles.scale_(S_new_1, xi[:, :, None])
    del S_new_1
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        k_G_before_scaled_c,
        P_rp_v_c,
        kappa_3_c,
        inv_c,
        U_1_c,
        rG_c,
        A_c,
        v_c,
        A_2_c,
        G_C_c,
        key_G_after_scaled_c,
        S_new_2_c,
    ) in scan.each(
        steps,
        H,
        (
            k_G_before_scaled,
            P_rp_v,
            kappa_3[:, :, :, None],
            inv,
            U_1,
            rG,
            A,
            v,
            A_2,
            G_C[:, :, :, None],
            key_G_after_scaled.mT,
            S_new_2.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_3 = torch.bmm(k_G_before_scaled_c, S)
        U_4 = torch.addcmul(P_rp_v_c, kappa_3_c, U_3)
        U = torch.bmm(inv_c, U_4, out=U_rows.room(n))
        U_5 = torch.baddbmm(P_rp_v_c, U_1_c, S)
        U_2 = torch.bmm(inv_c, U_5)
        o = scan.addmm(torch.bmm(rG_c, S, out=o_rows.room(n)), A_c, v_c)
        o = scan.addmm(o, A_2_c, U_2)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, key_G_after_scaled_c, v_c)
        S_new = scan.addmm(S_new, S_new_2_c, U_2, -1)
        if keep:
            U_rows.put(U)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del o_rows
    del G_C, P_rp_v, S_new_2, U_1, k_G_before_scaled, kappa_3, key_G_after_scaled, rG
    return (o, bonus), (S_end,), (S, P_rp, A_2, A, inv, U) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (r, w, k, v, a_, w0, xi, mix, _) = args
    H = h0[0].shape[1]
    log2_D_1 = math.exp(-0.5)
    log2_D_2 = w + w0[:, :, None]
    log2_D_3 = tiles.apply_(torch.sigmoid_, log2_D_2)
    del log2_D_2
    log2_D_4 = log2_D_3 * -1 * log2_D_1
    del log2_D_3
    rate = torch.sigmoid(a_)
    k_scaled = xi[:, :, None] * k
    key_1 = torch.addcmul(-mix[:, :, None], mix[:, :, None], rate)
    key_1 = key_1 + 1
    key = k * key_1
    log2_D_5 = log2_D_4 * tiles.LOG2E
    del log2_D_4
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_5, 0)
    del log2_D_5
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    k_G_before = tiles.product_(G_before, k)
    del G_before
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    k_rate = tiles.product_(rate, k)
    del rate
    k_G_after = k * G_after
    G_after_k_rate = tiles.product_(G_after, k_rate)
    del G_after
    k_squared = k * k
    key_G_after = tiles.product_(key_1, k_G_after)
    del k_G_after, key_1
    xi_squared = xi * xi
    k_squared_scaled = tiles.scale_(k_squared, xi_squared[:, :, None])
    del k_squared, xi_squared
    kappa_1 = k_squared_scaled.sum(3)
    del k_squared_scaled
    kappa_2 = kappa_1 + 1e-06
    del kappa_1
    kappa_3 = torch.rsqrt(kappa_2)
    del kappa_2
    kappa = tiles.scale_(k_scaled, kappa_3[:, :, :, None])
    del k_scaled
    w1_1 = valid * kappa_3
    w1 = tiles.product_(k_rate, xi[:, :, None], w1_1[:, :, :, None], -1)
    del k_rate
    key_ = tiles.scale_(key, valid[:, :, :, None])
    del key
    k_G_before_scaled = tiles.scale_(k_G_before, xi[:, :, None])
    del k_G_before
    key_G_after_scaled = tiles.scale_(key_G_after, valid[:, :, :, None])
    del key_G_after
    S_new_1 = tiles.scale_(G_after_k_rate, w1_1[:, :, :, None])
    del G_after_k_rate, w1_1
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    P_rp = tiles.decay_dot(kappa, key_, f1, strict=True)
    P_rp_v = P_rp @ v
    P = tiles.decay_dot(kappa, w1, f1, strict=True)
    del f1, kappa
    f1_2 = tiles.decay_factors(log2_D)
    A_2 = tiles.decay_dot(r, w1, f1_2)
    del w1
    A = tiles.decay_dot(r, key_, f1_2)
    del f1_2, key_, log2_D
    inv = tiles.inverse(P)
    del P
    U_1 = kappa_3[:, :, :, None] * k_G_before_scaled
    S_new_2 = tiles.scale_(S_new_1, xi[:, :, None])
    del S_new_1
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        k_G_before_scaled_c,
        P_rp_v_c,
        kappa_3_c,
        inv_c,
        U_1_c,
        G_C_c,
        key_G_after_scaled_c,
        v_c,
        S_new_2_c,
    ) in scan.each(
        steps,
        H,
        (
            k_G_before_scaled,
            P_rp_v,
            kappa_3[:, :, :, None],
            inv,
            U_1,
            G_C[:, :, :, None],
            key_G_after_scaled.mT,
            v,
            S_new_2.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_3 = torch.bmm(k_G_before_scaled_c, S)
        U_4 = torch.addcmul(P_rp_v_c, kappa_3_c, U_3)
        U = torch.bmm(inv_c, U_4, out=U_rows.room(n))
        U_5 = torch.baddbmm(P_rp_v_c, U_1_c, S)
        U_2 = torch.bmm(inv_c, U_5)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, key_G_after_scaled_c, v_c)
        S_new = scan.addmm(S_new, S_new_2_c, U_2, -1)
        if keep:
            U_rows.put(U)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del G_C, P_rp_v, S_new_2, U_1, k_G_before_scaled, kappa_3, key_G_after_scaled
    return (), (S_end,), (S, P_rp, A_2, A, inv, U) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, P_rp, r_w1, r_key, inv, U) = kept
    (do, dbonus) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    log2_D_1 = math.exp(-0.5)
    log2_D_2 = w + w0[:, :, None]
    log2_D_3 = tiles.apply_(torch.sigmoid_, log2_D_2)
    del log2_D_2
    log2_D_4 = log2_D_3 * -1 * log2_D_1
    rate = tiles.apply_(torch.sigmoid_, a_)
    k_scaled = xi[:, :, None] * k
    key_1 = torch.addcmul(-mix[:, :, None], mix[:, :, None], rate)
    key_1 = key_1 + 1
    key = k * key_1
    log2_D_5 = log2_D_4 * tiles.LOG2E
    del log2_D_4
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_D_5, 0)
    del log2_D_5
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    k_G_before = k * G_before
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    rG = r * G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    ln2 = tiles.LN2
    do_v = do @ v.mT
    f1 = tiles.decay_factors(log2_D)
    dk_1 = tiles.decay_dot_columns(do_v, r, f1)
    del dk_1
    log2e = tiles.LOG2E
    v_dbonus = v * dbonus
    v_dbonus_sum = v_dbonus.sum(3)
    del v_dbonus
    da_1 = -rate + 1
    da_2 = tiles.product_(da_1, rate)
    del da_1
    dw_1 = -log2_D_3 + 1
    dw_2 = tiles.product_(log2_D_3, dw_1)
    del dw_1, log2_D_3
    k_rate = k * rate
    k_G_after = k * G_after
    rk = r * k
    G_after_k_rate = G_after * k_rate
    k_squared = k * k
    r_k_rate = r * k_rate
    key_G_after = key_1 * k_G_after
    mix_rho = mix * rho
    xi_squared = xi * xi
    dw_3 = log2_D_1 * log2e
    rk_scaled = v_dbonus_sum[:, :, :, None] * rk
    k_squared_scaled = xi_squared[:, :, None] * k_squared
    kappa_1 = k_squared_scaled.sum(3)
    del k_squared_scaled
    kappa_2 = kappa_1 + 1e-06
    del kappa_1
    kappa_3 = torch.rsqrt(kappa_2)
    del kappa_2
    kappa = kappa_3[:, :, :, None] * k_scaled
    w1_1 = valid * kappa_3
    w1 = tiles.product(k_rate, (xi * -1)[:, :, None], w1_1[:, :, :, None])
    key_ = valid[:, :, :, None] * key
    r_k_rate_scaled = mix_rho[:, :, None] * r_k_rate
    dv_1 = r_k_rate_scaled.sum(3)
    del r_k_rate_scaled
    rk_scaled_2 = mix_rho[:, :, None] * rk
    rk_scaled_sum = rk_scaled_2.sum(3)
    del rk_scaled_2
    rk_scaled_3 = tiles.scale_(rk, rho[:, :, None])
    del rk
    rk_scaled_sum_2 = rk_scaled_3.sum(3)
    del rk_scaled_3
    dv_2 = dv_1 + rk_scaled_sum_2 - rk_scaled_sum
    del dv_1, rk_scaled_sum, rk_scaled_sum_2
    k_G_before_scaled = xi[:, :, None] * k_G_before
    dxi_1 = w1_1[:, :, :, None] * G_after_k_rate
    dS_before_1 = xi[:, :, None] * G_after_k_rate
    rk_scaled_sum_3 = rk_scaled.sum(2)
    r_k_rate_scaled_2 = tiles.scale_(r_k_rate, v_dbonus_sum[:, :, :, None])
    del r_k_rate
    dmix_1 = r_k_rate_scaled_2.sum(2)
    del r_k_rate_scaled_2
    drho = torch.addcmul(rk_scaled_sum_3, mix, dmix_1)
    drho = tiles.addcmul_(drho, mix, rk_scaled_sum_3, -1)
    dk_2 = rho[:, :, None] * v_dbonus_sum[:, :, :, None]
    dk_2 = tiles.addcmul_(dk_2, v_dbonus_sum[:, :, :, None], mix_rho[:, :, None], -1)
    k_G_before_scaled_2 = kappa_3[:, :, :, None] * k_G_before
    dr_1, dk_1_, dw_4 = tiles.decay_dot_grads(do_v, r, key_, f1)
    del do_v
    do_U = do @ U.mT
    dr_2, dk_3, dw_5 = tiles.decay_dot_grads(do_U, r, w1, f1)
    del do_U, f1
    dxi_2 = kappa_3 * kappa_3
    dxi_3 = kappa_3 * dxi_2
    del dxi_2
    dS_before_2 = tiles.scale_(dS_before_1, w1_1[:, :, :, None])
    del dS_before_1
    dS_before_3 = tiles.scale_(k_G_before_scaled_2, xi[:, :, None])
    del k_G_before_scaled_2
    v_dS_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    drG_rows = scan.Rows(steps, H, True)
    key_G_after_dS_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dS_before_5_rows = scan.Rows(steps, H, True)
    dk_4_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dS_before_2_c,
        r_w1_c,
        do_c,
        inv_c,
        v_c,
        S_c,
        key_G_after_c,
        U_c,
        S_c_2,
        G_C_c,
        rG_c,
        dS_before_3_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_2,
            r_w1.mT,
            do,
            inv.mT,
            v,
            S,
            key_G_after,
            U,
            S.mT,
            G_C[:, :, :, None],
            rG.mT,
            dS_before_3.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_4 = scan.addmm(torch.bmm(r_w1_c, do_c), dS_before_2_c, dS, -1)
        dS_before_5 = torch.bmm(inv_c, dS_before_4, out=dS_before_5_rows.room(n))
        v_dS = torch.bmm(v_c, dS.mT, out=v_dS_rows.room(n))
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 2, out=dG_C_rows.room(n))
        key_G_after_dS = torch.bmm(key_G_after_c, dS, out=key_G_after_dS_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        drG = torch.bmm(do_c, S_c_2, out=drG_rows.room(n))
        dk_4 = torch.bmm(dS_before_5, S_c_2, out=dk_4_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), rG_c, do_c)
        dS_before = scan.addmm(dS_before, dS_before_3_c, dS_before_5)
        v_dS_rows.put(v_dS)
        dG_C_rows.put(dG_C)
        drG_rows.put(drG)
        key_G_after_dS_rows.put(key_G_after_dS)
        U_dS_rows.put(U_dS)
        dS_before_5_rows.put(dS_before_5)
        dk_4_rows.put(dk_4)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    v_dS = v_dS_rows.joined()
    dG_C = dG_C_rows.joined()
    drG = drG_rows.joined()
    key_G_after_dS = key_G_after_dS_rows.joined()
    U_dS = U_dS_rows.joined()
    dS_before_5 = dS_before_5_rows.joined()
    dk_4 = dk_4_rows.joined()
    del v_dS_rows
    del dG_C_rows
    del drG_rows
    del key_G_after_dS_rows
    del U_dS_rows
    del dS_before_5_rows
    del dk_4_rows
    del dS_before_2, dS_before_3, key_G_after
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    v_dS_k_G_after = v_dS * k_G_after
    v_dS_scaled = valid[:, :, :, None] * v_dS
    del v_dS
    dmix_2 = tiles.scale_(v_dS_k_G_after, valid[:, :, :, None])
    del v_dS_k_G_after
    dk_5 = tiles.product(key_1, G_after, v_dS_scaled)
    dlog2_G = tiles.product_(rG, drG, ln2)
    del rG
    dw_6 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    k_rate_scaled = tiles.product(k_rate, v_dbonus_sum[:, :, :, None], mix_rho[:, :, None])
    dk_6 = tiles.product(r, rate, v_dbonus_sum[:, :, :, None], mix_rho[:, :, None])
    del v_dbonus_sum
    dmix_3 = dmix_2.sum(2)
    dmix_4 = G_after_k_rate * v_dS_scaled
    dmix_5 = dmix_4.sum(2)
    del dmix_4
    U_dS_scaled = xi[:, :, None] * U_dS
    dxi_4 = tiles.product_(G_after_k_rate, U_dS_scaled)
    del G_after_k_rate
    dxi_5 = dxi_4.sum(3)
    del dxi_4
    U_dS_scaled_scaled = tiles.scale_(U_dS_scaled, w1_1[:, :, :, None])
    del U_dS_scaled
    dG_after = tiles.addcmul_(key * v_dS_scaled, k_rate, U_dS_scaled_scaled, -1)
    del key, v_dS_scaled
    dlog2_G_after = tiles.product_(dG_after, G_after, ln2)
    del dG_after
    dw_7 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    drate = tiles.addcmul_(mix_rho[:, :, None] * rk_scaled, mix[:, :, None], dmix_2)
    drate = tiles.addcmul_(drate, k_G_after, U_dS_scaled_scaled, -1)
    del dmix_2, k_G_after, mix_rho, rk_scaled
    dk_7 = tiles.product_(G_after, rate, U_dS_scaled_scaled)
    del G_after, U_dS_scaled_scaled
    dr = tiles.addcmul_(k_rate_scaled + dr_1 + dr_2, G, drG)
    dr = tiles.addcmul_(dr, k, dk_2)
    del G, drG, dr_1, dr_2, k_rate_scaled
    dxi_6 = tiles.product_(dxi_1, U_dS)
    del U_dS, dxi_1
    dxi_7 = dxi_6.sum(2)
    del dxi_6
    dk_8 = dS_before_5 @ U.mT
    dk_9 = dk_8.tril(-1)
    del dk_8
    f1_2 = tiles.decay_factors(log2_D, exclusive=True)
    dk_10, dk_11, dw_8 = tiles.decay_dot_grads(dk_9, kappa, w1, f1_2, strict=True)
    del dk_9, log2_D, w1
    dk_12 = dS_before_5 @ v.mT
    dk_13, dk_14, dw_9 = tiles.decay_dot_grads(dk_12, kappa, key_, f1_2, strict=True)
    del dk_12, f1_2, kappa, key_
    dk_15 = tiles.product_(G_before, xi[:, :, None], kappa_3[:, :, :, None], dk_4)
    del G_before
    dxi_8 = tiles.product_(k_G_before, dk_4)
    del k_G_before
    dxi_9 = tiles.scale_(dxi_8, kappa_3[:, :, :, None])
    del dxi_8
    dxi_10 = dxi_9.sum(2)
    dw_10 = tiles.scale_(dxi_9, xi[:, :, None], ln2)
    del dxi_9
    dw_11 = tiles.suffix_sum(dw_10, 2, exclusive=True)
    del dw_10
    dw_12 = dlog2_G_C_2 + dw_6 + dw_4 + dw_7 + dw_5 + dw_8
    dw_12 = dw_12 + dw_9 + dw_11
    del dlog2_G_C_2, dw_11, dw_4, dw_5, dw_6, dw_7, dw_8, dw_9
    dk_16 = dk_3 + dk_11
    del dk_11, dk_3
    dxi_11 = dk_16 * k_rate
    dxi_12 = w1_1[:, :, :, None] * dxi_11
    dxi_13 = dxi_12.sum(2)
    del dxi_12
    dk_17 = tiles.scale_(dxi_11, xi[:, :, None])
    del dxi_11
    dk_18 = dk_17.sum(3)
    del dk_17
    dk_19 = dk_1_ + dk_14
    del dk_14, dk_1_
    dmix_6 = k * dk_19
    dmix_7 = tiles.scale_(dmix_6, valid[:, :, :, None])
    del dmix_6
    dmix_8 = dmix_7.sum(2)
    dk_20 = tiles.scale_(dk_19, valid[:, :, :, None])
    del dk_19
    dmix_9 = tiles.product_(k_rate, dk_20)
    del k_rate
    dmix_10 = dmix_9.sum(2)
    del dmix_9
    dk_21 = tiles.scale_(dk_16, w1_1[:, :, :, None])
    del dk_16, w1_1
    da_3 = tiles.addcmul_(mix[:, :, None] * dmix_7, k_scaled, dk_21, -1)
    del dmix_7, k_scaled
    dk_22 = tiles.product_(rate, xi[:, :, None], dk_21)
    del dk_21, rate
    dk_23 = dk_10 + dk_13
    del dk_10, dk_13
    dk_24 = tiles.product(dk_23, xi[:, :, None], kappa_3[:, :, :, None])
    dxi_14 = tiles.product_(dk_23, k)
    del dk_23
    dxi_15 = kappa_3[:, :, :, None] * dxi_14
    del kappa_3
    dxi_16 = tiles.scale_(dxi_14, xi[:, :, None])
    del dxi_14
    dxi_17 = dxi_15.sum(2)
    del dxi_15
    dxi_18 = dxi_16.sum(3)
    del dxi_16
    dxi_19 = torch.addcmul(dxi_18, valid, dxi_5, value=-1)
    del dxi_18, dxi_5
    dxi_20 = dxi_19 * dxi_3
    del dxi_19
    k_squared_scaled_2 = dxi_20[:, :, :, None] * k_squared
    dxi_21 = k_squared_scaled_2.sum(2)
    del k_squared_scaled_2
    dw_13 = tiles.product_(dw_2, dw_12)
    del dw_12, dw_2
    dw_14 = tiles.scale_(dw_13, valid[:, :, :, None])
    del dw_13
    dw = dw_14 * -1 * dw_3
    dw0_1 = dw_14.sum(2)
    del dw_14
    dw0 = dw0_1 * -1 * dw_3
    del dw0_1
    dmix = tiles.addcmul_(dmix_5 + dmix_10 - dmix_3 - dmix_8, rho, dmix_1)
    dmix = tiles.addcmul_(dmix, rho, rk_scaled_sum_3, -1)
    del dmix_1, dmix_10, dmix_3, dmix_5, dmix_8, rk_scaled_sum_3
    da = tiles.addcmul_(da_2 * da_3, da_2, drate)
    del da_2, da_3, drate
    dv = tiles.addcmul_(valid[:, :, :, None] * key_G_after_dS, dv_2[:, :, :, None], dbonus)
    dv = tiles.addmm_(tiles.addmm_(dv, r_key.mT, do), P_rp.mT, dS_before_5)
    del dS_before_5, dv_2, key_G_after_dS
    dk_25 = tiles.product_(k_G_before_scaled, dk_4)
    del dk_4, k_G_before_scaled
    dk_26 = dk_25.sum(3)
    del dk_25
    dk_27 = torch.addcmul(dk_26, valid, dk_18, value=-1)
    del dk_18, dk_26
    dk_28 = dk_27 * dxi_3
    del dk_27, dxi_3
    dk_29 = xi_squared[:, :, None] * -1 * dk_28[:, :, :, None]
    dk_29 = tiles.addcmul_(dk_29, xi_squared[:, :, None], dxi_20[:, :, :, None], -1)
    del dxi_20, xi_squared
    dk = dk_5 + dk_6 + dk_15 + dk_24 - dk_22 - dk_7
    dk = tiles.addcmul_(tiles.addcmul_(dk, r, dk_2), key_1, dk_20)
    dk = tiles.addcmul_(dk, k, dk_29)
    del dk_15, dk_2, dk_20, dk_22, dk_24, dk_29, dk_5, dk_6, dk_7, key_1
    k_squared_scaled_3 = tiles.scale_(k_squared, dk_28[:, :, :, None])
    del dk_28, k_squared
    dxi_22 = k_squared_scaled_3.sum(2)
    del k_squared_scaled_3
    dxi = tiles.addcmul_(dxi_10 + dxi_17 - dxi_7 - dxi_13, xi, dxi_22, -1)
    dxi = tiles.addcmul_(dxi, xi, dxi_21, -1)
    del dxi_10, dxi_13, dxi_17, dxi_21, dxi_22, dxi_7
    return (dr, dw, dk, dv, da, dw0, dxi, dmix, drho), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    H = h0[0].shape[1]
    decay_1 = math.exp(-0.5)
    decay_2 = w + w0
    decay_3 = torch.sigmoid(decay_2)
    del decay_2
    k_xi = k * xi
    rate = torch.sigmoid(a_)
    key_1 = tiles.addcmul_(-mix, mix, rate) + 1
    key = k * key_1
    del key_1
    rk = r * k
    mix_rho = mix * rho
    rho_rk = rho * rk
    rk_mix_rho = rk * mix_rho
    del mix_rho, rk
    k_k_xi = k * k_xi
    k_xi_rate = k_xi * rate
    decay_4 = decay_3 * decay_1
    del decay_3
    decay_5 = decay_4 * -1
    del decay_4
    decay = torch.exp(decay_5)
    del decay_5
    xi_k_k_xi = xi * k_k_xi
    del k_k_xi
    xi_k_k_xi_sum = xi_k_k_xi.sum(2)
    del xi_k_k_xi
    kappa_1 = xi_k_k_xi_sum + 1e-06
    del xi_k_k_xi_sum
    kappa_2 = torch.rsqrt(kappa_1)
    del kappa_1
    kappa = tiles.scale_(k_xi, kappa_2[:, :, None])
    del k_xi
    S_new_1 = v[:, :, None] * key[:, :, :, None]
    del key
    rate_rk_mix_rho = rate * rk_mix_rho
    del rate
    bonus_1 = rate_rk_mix_rho.sum(2)
    del rate_rk_mix_rho
    rk_mix_rho_sum = rk_mix_rho.sum(2)
    del rk_mix_rho
    rho_rk_sum = rho_rk.sum(2)
    del rho_rk
    bonus_2 = bonus_1 + rho_rk_sum - rk_mix_rho_sum
    del bonus_1, rho_rk_sum, rk_mix_rho_sum
    bonus = bonus_2[:, :, None] * v
    del bonus_2
    k_xi_rate_scaled = tiles.scale_(k_xi_rate, kappa_2[:, :, None])
    del k_xi_rate, kappa_2
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        kappa_c,
        decay_c,
        S_new_1_c,
        k_xi_rate_scaled_c,
        r_c,
    ) in scan.each(
        steps,
        H,
        (
            kappa,
            decay[:, :, :, None],
            S_new_1,
            k_xi_rate_scaled[:, :, :, None],
            r,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        u = (kappa_c[..., None, :] @ S).squeeze(-2)
        S_new = scan.scale(S, decay_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new + S_new_1_c, k_xi_rate_scaled_c, u[:, None], -1)
        o = (r_c[..., None, :] @ S_new).squeeze(-2)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del S_new_1, decay, k_xi_rate_scaled, kappa
    return (o, bonus), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, w, k, v, a_, w0, xi, mix, _) = args
    H = h0[0].shape[1]
    decay_1 = math.exp(-0.5)
    decay_2 = w + w0
    decay_3 = torch.sigmoid(decay_2)
    del decay_2
    k_xi = k * xi
    rate = torch.sigmoid(a_)
    key_1 = tiles.addcmul_(-mix, mix, rate) + 1
    key = k * key_1
    del key_1
    k_k_xi = k * k_xi
    k_xi_rate = k_xi * rate
    del rate
    decay_4 = decay_3 * decay_1
    del decay_3
    decay_5 = decay_4 * -1
    del decay_4
    decay = torch.exp(decay_5)
    del decay_5
    xi_k_k_xi = xi * k_k_xi
    del k_k_xi
    xi_k_k_xi_sum = xi_k_k_xi.sum(2)
    del xi_k_k_xi
    kappa_1 = xi_k_k_xi_sum + 1e-06
    del xi_k_k_xi_sum
    kappa_2 = torch.rsqrt(kappa_1)
    del kappa_1
    kappa = tiles.scale_(k_xi, kappa_2[:, :, None])
    del k_xi
    S_new_1 = v[:, :, None] * key[:, :, :, None]
    del key
    k_xi_rate_scaled = tiles.scale_(k_xi_rate, kappa_2[:, :, None])
    del k_xi_rate, kappa_2
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        kappa_c,
        decay_c,
        S_new_1_c,
        k_xi_rate_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            kappa,
            decay[:, :, :, None],
            S_new_1,
            k_xi_rate_scaled[:, :, :, None],
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        u = (kappa_c[..., None, :] @ S).squeeze(-2)
        S_new = scan.scale(S, decay_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new + S_new_1_c, k_xi_rate_scaled_c, u[:, None], -1)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1, decay, k_xi_rate_scaled, kappa
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, a_, w0, xi, mix, rho) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do, dbonus) = douts
    H = h0[0].shape[1]
    decay_1 = math.exp(-0.5)
    decay_2 = w + w0
    decay_3 = torch.sigmoid(decay_2)
    del decay_2
    k_xi = k * xi
    rate = torch.sigmoid(a_)
    mix_rate = mix * rate
    key_1 = mix_rate - mix + 1
    key = k * key_1
    v_dbonus = v * dbonus
    v_dbonus_sum = v_dbonus.sum(2)
    del v_dbonus
    dr_k_mix_rho_sum = v_dbonus_sum * -1
    dS_before_1 = r[:, :, :, None] * do[:, :, None]
    da_1 = -rate + 1
    dw0_1 = -decay_3 + 1
    rk = r * k
    mix_rho = mix * rho
    k_rate = k * rate
    rho_rk = rho * rk
    rk_mix_rho = rk * mix_rho
    r_mix_rho = r * mix_rho
    k_k_xi = k * k_xi
    k_xi_rate = k_xi * rate
    rho_scaled = v_dbonus_sum[:, :, None] * rho
    decay_4 = decay_3 * decay_1
    del decay_3
    rate_scaled = v_dbonus_sum[:, :, None] * rate
    rk_scaled = v_dbonus_sum[:, :, None] * rk
    decay_5 = decay_4 * -1
    decay = torch.exp(decay_5)
    del decay_5
    xi_k_k_xi = xi * k_k_xi
    xi_k_k_xi_sum = xi_k_k_xi.sum(2)
    del xi_k_k_xi
    kappa_1 = xi_k_k_xi_sum + 1e-06
    del xi_k_k_xi_sum
    kappa_2 = torch.rsqrt(kappa_1)
    del kappa_1
    kappa = kappa_2[:, :, None] * k_xi
    u = (kappa[..., None, :] @ S).squeeze(-2)
    del kappa
    dr_1 = (kappa_2[:, :, None] * u)[:, :, None] * k_xi_rate[:, :, :, None]
    dr_2 = tiles.addcmul_(-dr_1, decay[:, :, :, None], S)
    dr_2 = tiles.addcmul_(dr_2, v[:, :, None], key[:, :, :, None])
    del dr_1
    rate_rk_mix_rho = rate * rk_mix_rho
    dv_1 = rate_rk_mix_rho.sum(2)
    del rate_rk_mix_rho
    rk_mix_rho_sum = rk_mix_rho.sum(2)
    rho_rk_sum = rho_rk.sum(2)
    dv_2 = dv_1 + rho_rk_sum - rk_mix_rho_sum
    del dv_1, rho_rk_sum, rk_mix_rho_sum
    dr_3 = tiles.product(k, mix_rho, dr_k_mix_rho_sum[:, :, None])
    drho_1 = tiles.product(mix, rk, dr_k_mix_rho_sum[:, :, None])
    del rk
    dr_4 = tiles.product(mix_rho, k_rate, v_dbonus_sum[:, :, None])
    del mix_rho
    dr_5 = (do[..., None, :] @ dr_2.mT).squeeze(-2)
    del dr_2
    dk_1 = kappa_2 * kappa_2
    drho = tiles.addcmul_(rk_scaled + drho_1, mix_rate, rk_scaled)
    del drho_1, mix_rate, rk_scaled
    dr = tiles.addcmul_(dr_3 + dr_4 + dr_5, k, rho_scaled)
    del dr_3, dr_4, dr_5
    k_xi_scaled = dk_1[:, :, None] * k_xi
    dS_before_2_rows = scan.Rows(steps, H, True)
    dkappa_S_1_rows = scan.Rows(steps, H, True)
    dkappa_S_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dS_before_1_c,
        k_xi_rate_c,
        k_xi_scaled_c,
        decay_c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            k_xi_rate,
            k_xi_scaled[:, :, :, None],
            decay[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dkappa_S_1 = -dS - dS_before_1_c
        dkappa_S_2 = k_xi_rate_c[:, :, None] * dkappa_S_1
        dkappa_S_3 = torch.sum(dkappa_S_2, 1, out=dkappa_S_3_rows.room(n))
        dS_before = tiles.addcmul_(k_xi_scaled_c * dkappa_S_3[:, None], decay_c, dS_before_2)
        dS_before_2_rows.put(dS_before_2)
        dkappa_S_1_rows.put(dkappa_S_1)
        dkappa_S_3_rows.put(dkappa_S_3)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    dkappa_S_1 = dkappa_S_1_rows.joined()
    dkappa_S_3 = dkappa_S_3_rows.joined()
    del dS_before_2_rows
    del dkappa_S_1_rows
    del dkappa_S_3_rows
    del dS_before_1, k_xi_rate, k_xi_scaled
    dk_2 = v[:, :, None] * dS_before_2
    dk_3 = dk_2.sum(3)
    del dk_2
    dmix_1 = k * dk_3
    dw0_2 = S * dS_before_2
    dw0_3 = dw0_2.sum(3)
    del dw0_2
    dk_4 = u[:, :, None] * dkappa_S_1
    del dkappa_S_1
    dk_5 = dk_4.sum(3)
    del dk_4
    dk_6 = kappa_2[:, :, None] * dk_5
    del dk_5
    dk_7 = tiles.product(xi, rate, dk_6)
    dk_8 = u * dkappa_S_3
    del u
    dk_9 = dk_8.sum(2)
    del dk_8
    dkappa_S = kappa_2[:, :, None] * dkappa_S_3
    del dkappa_S_3
    dv_3 = key[:, :, :, None] * dS_before_2
    del dS_before_2, key
    dv_4 = dv_3.sum(2)
    del dv_3
    drate = tiles.addcmul_(v_dbonus_sum[:, :, None] * rk_mix_rho, k_xi, dk_6)
    drate = tiles.addcmul_(drate, mix, dmix_1)
    del rk_mix_rho, v_dbonus_sum
    da = tiles.product(rate, drate, da_1)
    del da_1, drate, rate
    dkappa = (dkappa_S[..., None, :] @ S.mT).squeeze(-2)
    del dkappa_S
    dkappa_scaled = kappa_2[:, :, None] * dkappa
    k_xi_dkappa = k_xi * dkappa
    del dkappa
    k_xi_dkappa_sum = k_xi_dkappa.sum(2)
    del k_xi_dkappa
    dk_10 = dk_9 + k_xi_dkappa_sum
    del dk_9, k_xi_dkappa_sum
    dk_11 = tiles.product(kappa_2, dk_10, dk_1, -0.5)
    del dk_1, dk_10, kappa_2
    dk_12 = tiles.product(xi, k_xi, dk_11[:, :, None])
    del k_xi
    dw0 = tiles.product(decay, dw0_3, dw0_1, decay_4, -1)
    del decay, decay_4, dw0_1, dw0_3
    dmix = tiles.addcmul_(-dmix_1, dr_k_mix_rho_sum[:, :, None], rho_rk)
    dmix = tiles.addcmul_(dmix, rho_rk, rate_scaled)
    dmix = tiles.addcmul_(dmix, dk_3, k_rate)
    del dmix_1, rho_rk
    dxi = tiles.addcmul_(k_rate * dk_6, k, dkappa_scaled)
    dxi = tiles.addcmul_(dxi, dk_11[:, :, None], k_k_xi, 2)
    del dk_11, dk_6, k_k_xi, k_rate
    dv = torch.addcmul(dv_4, dv_2[:, :, None], dbonus)
    del dv_2, dv_4
    dk = tiles.addcmul_(torch.add(dk_7, dk_12, alpha=2), r, rho_scaled)
    dk = tiles.addcmul_(dk, dr_k_mix_rho_sum[:, :, None], r_mix_rho)
    dk = tiles.addcmul_(dk, r_mix_rho, rate_scaled)
    dk = tiles.addcmul_(tiles.addcmul_(dk, key_1, dk_3), xi, dkappa_scaled)
    del dk_12, dk_3, dk_7, dkappa_scaled, dr_k_mix_rho_sum, key_1, r_mix_rho, rate_scaled, rho_scaled
    return (dr, dw0, dk, dv, da, dw0, dxi, dmix, drho), (dS_end,)
