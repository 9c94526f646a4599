"""dplr: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + b @ (S[t-1].T @ a).T + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)
  alpha = exp(g)

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w1 = b,  f1 = a
  w2 = k,  v_2 = v
  q_ = K**-0.5 * q
  G[i] = D[1] * ... * D[i],  G[0] = 1
  P[i,j] = f[i]^T (G[i-1]/G[j]) w[j],  j < i
  U = (I - P_rr)^-1 ((f * G[i-1]) S_in + P_rp v_p)
  _r are the writes that read, _p those that do not: there U = v_
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A U + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "dplr"
SPEC_HASH = "921ccc2c3f0bcbde72b631c27c3f77de9b9684188af6f9a85ca434d599d1ef3d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)), ("g", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    b_scaled = valid[:, :, :, None] * b_
    k_scaled = valid[:, :, :, None] * k
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    log2_exp_g = g * tiles.LOG2E
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_exp_g, 0)
    del log2_exp_g
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    a_G_before = tiles.product_(G_before, a_)
    del G_before
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    qG = tiles.product_(q, G)
    del G
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    b_G_after = tiles.product_(b_, G_after)
    k_G_after = tiles.product_(k, G_after)
    del G_after
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    P_rp = tiles.decay_dot(a_, k_scaled, f1, strict=True)
    P = tiles.decay_dot(a_, b_scaled, f1, strict=True)
    del f1
    f1_2 = tiles.decay_factors(log2_D)
    A_2 = tiles.decay_dot(q_, b_scaled, f1_2)
    del b_scaled
    A = tiles.decay_dot(q_, k_scaled, f1_2)
    del f1_2, k_scaled, log2_D, q_
    inv = tiles.inverse(P)
    del P
    b_G_after_scaled = tiles.scale_(b_G_after, valid[:, :, :, None])
    del b_G_after
    k_G_after_scaled = tiles.scale_(k_G_after, valid[:, :, :, None])
    del k_G_after
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a_G_before_c,
        P_rp_c,
        v_c,
        inv_c,
        qG_c,
        A_c,
        A_2_c,
        G_C_c,
        k_G_after_scaled_c,
        b_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            a_G_before,
            P_rp,
            v,
            inv,
            qG,
            A,
            A_2,
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
            b_G_after_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = scan.addmm(torch.bmm(a_G_before_c, S), P_rp_c, v_c)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = scan.addmm(torch.bmm(A_c, v_c, out=o_rows.room(n)), A_2_c, U)
        o = scan.addmm(o, qG_c, S, rsqrt_K)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, v_c)
        S_new = scan.addmm(S_new, b_G_after_scaled_c, U)
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
    del G_C, a_G_before, b_G_after_scaled, k_G_after_scaled, qG
    return (o,), (S_end,), (S, P_rp, A_2, A, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    b_scaled = valid[:, :, :, None] * b_
    k_scaled = valid[:, :, :, None] * k
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    log2_exp_g = g * tiles.LOG2E
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_exp_g, 0)
    del log2_exp_g
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    a_G_before = tiles.product_(G_before, a_)
    del G_before
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    b_G_after = b_ * G_after
    k_G_after = tiles.product_(G_after, k)
    del G_after
    f1 = tiles.decay_factors(log2_D, exclusive=True)
    P_rp = tiles.decay_dot(a_, k_scaled, f1, strict=True)
    P = tiles.decay_dot(a_, b_scaled, f1, strict=True)
    del f1
    f1_2 = tiles.decay_factors(log2_D)
    A_2 = tiles.decay_dot(q_, b_scaled, f1_2)
    del b_scaled
    A = tiles.decay_dot(q_, k_scaled, f1_2)
    del f1_2, k_scaled, log2_D, q_
    inv = tiles.inverse(P)
    del P
    b_G_after_scaled = tiles.scale_(b_G_after, valid[:, :, :, None])
    del b_G_after
    k_G_after_scaled = tiles.scale_(k_G_after, valid[:, :, :, None])
    del k_G_after
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a_G_before_c,
        P_rp_c,
        v_c,
        inv_c,
        G_C_c,
        k_G_after_scaled_c,
        b_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            a_G_before,
            P_rp,
            v,
            inv,
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
            b_G_after_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = scan.addmm(torch.bmm(a_G_before_c, S), P_rp_c, v_c)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, v_c)
        S_new = scan.addmm(S_new, b_G_after_scaled_c, U)
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
    del G_C, a_G_before, b_G_after_scaled, k_G_after_scaled
    return (), (S_end,), (S, P_rp, A_2, A, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, g) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, P_rp, q_b_scaled, q_k_scaled, inv, U) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    b_scaled = valid[:, :, :, None] * b_
    k_scaled = valid[:, :, :, None] * k
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    log2_exp_g = g * tiles.LOG2E
    log2_D = torch.where(valid[:, :, :, None] > 0, log2_exp_g, 0)
    del log2_exp_g
    log2_G_before = tiles.prefix_sum(log2_D, 2, exclusive=True)
    G_before = tiles.apply_(torch.exp2_, log2_G_before)
    del log2_G_before
    a_G_before = a_ * G_before
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = tiles.apply_(torch.exp2_, log2_G)
    del log2_G
    qG = tiles.product_(q, G)
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = tiles.apply_(torch.exp2_, log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    b_G_after = tiles.product_(b_, G_after)
    k_G_after = tiles.product_(k, G_after)
    ln2 = tiles.LN2
    dq_k_scaled = do @ v.mT
    f1 = tiles.decay_factors(log2_D)
    dq_1, dk_1, dg_1 = tiles.decay_dot_grads(dq_k_scaled, q_, k_scaled, f1)
    del dq_k_scaled
    log2e = tiles.LOG2E
    dq_b_scaled = do @ U.mT
    dq_2, db_1, dg_2 = tiles.decay_dot_grads(dq_b_scaled, q_, b_scaled, f1)
    del dq_b_scaled, f1, q_
    dq_ = dq_1 + dq_2
    del dq_1, dq_2
    rsqrt_K_ln2 = rsqrt_K * ln2
    G_after_scaled = valid[:, :, :, None] * G_after
    b_G_after_scaled = tiles.scale_(b_G_after, valid[:, :, :, None])
    del b_G_after
    v_dS_rows = scan.Rows(steps, H, True)
    k_G_after_dS_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    U_dS_rows = scan.Rows(steps, H, True)
    dS_before_2_rows = scan.Rows(steps, H, True)
    da_1_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        b_G_after_scaled_c,
        q_b_scaled_c,
        do_c,
        inv_c,
        v_c,
        k_G_after_c,
        S_c,
        U_c,
        S_c_2,
        G_C_c,
        qG_c,
        a_G_before_c,
    ) in scan.each(
        steps,
        H,
        (
            b_G_after_scaled,
            q_b_scaled.mT,
            do,
            inv.mT,
            v,
            k_G_after,
            S,
            U,
            S.mT,
            G_C[:, :, :, None],
            qG.mT,
            a_G_before.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_1 = scan.addmm(torch.bmm(b_G_after_scaled_c, dS), q_b_scaled_c, do_c)
        dS_before_2 = torch.bmm(inv_c, dS_before_1, out=dS_before_2_rows.room(n))
        v_dS = torch.bmm(v_c, dS.mT, out=v_dS_rows.room(n))
        k_G_after_dS = torch.bmm(k_G_after_c, dS, out=k_G_after_dS_rows.room(n))
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 2, out=dG_C_rows.room(n))
        U_dS = torch.bmm(U_c, dS.mT, out=U_dS_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        da_1 = torch.bmm(dS_before_2, S_c_2, out=da_1_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), a_G_before_c, dS_before_2)
        dS_before = scan.addmm(dS_before, qG_c, do_c, rsqrt_K)
        v_dS_rows.put(v_dS)
        k_G_after_dS_rows.put(k_G_after_dS)
        dG_C_rows.put(dG_C)
        do_S_rows.put(do_S)
        U_dS_rows.put(U_dS)
        dS_before_2_rows.put(dS_before_2)
        da_1_rows.put(da_1)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    v_dS = v_dS_rows.joined()
    k_G_after_dS = k_G_after_dS_rows.joined()
    dG_C = dG_C_rows.joined()
    do_S = do_S_rows.joined()
    U_dS = U_dS_rows.joined()
    dS_before_2 = dS_before_2_rows.joined()
    da_1 = da_1_rows.joined()
    del v_dS_rows
    del k_G_after_dS_rows
    del dG_C_rows
    del do_S_rows
    del U_dS_rows
    del dS_before_2_rows
    del da_1_rows
    del b_G_after_scaled, k_G_after
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C, -1)
    del dlog2_G_C
    G_do_S = tiles.product_(G, do_S, rsqrt_K)
    del G
    dq_scaled = dq_ * rsqrt_K
    del dq_
    dq = G_do_S + dq_scaled
    del G_do_S, dq_scaled
    dlog2_G = tiles.product_(qG, do_S, rsqrt_K_ln2)
    del do_S, qG
    dg_3 = tiles.suffix_sum(dlog2_G, 2)
    del dlog2_G
    dG_after = tiles.addcmul_(v_dS * k_scaled, U_dS, b_scaled)
    dlog2_G_after = tiles.product_(G_after, dG_after, ln2)
    del G_after, dG_after
    dg_4 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    da_2 = dS_before_2 @ U.mT
    da_3 = da_2.tril(-1)
    del da_2
    f1_2 = tiles.decay_factors(log2_D, exclusive=True)
    da_4, db_2, dg_5 = tiles.decay_dot_grads(da_3, a_, b_scaled, f1_2, strict=True)
    del b_scaled, da_3, log2_D
    da_5 = dS_before_2 @ v.mT
    da_6, dk_2, dg_6 = tiles.decay_dot_grads(da_5, a_, k_scaled, f1_2, strict=True)
    del da_5, f1_2, k_scaled
    db_3 = db_1 + db_2
    del db_1, db_2
    dk_3 = dk_1 + dk_2
    del dk_1, dk_2
    da = tiles.addcmul_(da_4 + da_6, G_before, da_1)
    del G_before, da_4, da_6
    dv = tiles.addmm_(valid[:, :, :, None] * k_G_after_dS, q_k_scaled.mT, do)
    dv = tiles.addmm_(dv, P_rp.mT, dS_before_2)
    del dS_before_2, k_G_after_dS
    dg_7 = tiles.product_(a_G_before, da_1, ln2)
    del a_G_before, da_1
    dg_8 = tiles.suffix_sum(dg_7, 2, exclusive=True)
    del dg_7
    dg_9 = dlog2_G_C_2 + dg_3 + dg_1 + dg_4 + dg_2 + dg_5
    dg_9 = dg_9 + dg_6 + dg_8
    del dg_1, dg_2, dg_3, dg_4, dg_5, dg_6, dg_8, dlog2_G_C_2
    dg = tiles.scale_(dg_9, valid[:, :, :, None], log2e)
    del dg_9
    db = tiles.addcmul_(U_dS * G_after_scaled, valid[:, :, :, None], db_3)
    del U_dS, db_3
    dk = tiles.addcmul_(v_dS * G_after_scaled, valid[:, :, :, None], dk_3)
    del G_after_scaled, dk_3, v_dS
    return (dq, dk, dv, da, db, dg), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, g) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    alpha = torch.exp(g)
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        alpha_c,
        b__c,
        S_new_1_c,
        q__c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            alpha[:, :, :, None],
            b_[:, :, :, None],
            S_new_1,
            q_,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        u = (a__c[..., None, :] @ S).squeeze(-2)
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new + S_new_1_c, b__c, u[:, None])
        o = (q__c[..., None, :] @ S_new).squeeze(-2)
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
    del S_new_1, alpha, q_
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, g) = args
    H = h0[0].shape[1]
    alpha = torch.exp(g)
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        alpha_c,
        b__c,
        S_new_1_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            alpha[:, :, :, None],
            b_[:, :, :, None],
            S_new_1,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        u = (a__c[..., None, :] @ S).squeeze(-2)
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new + S_new_1_c, b__c, u[:, None])
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1, alpha
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, g) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    alpha = torch.exp(g)
    u = (a_[..., None, :] @ S).squeeze(-2)
    dq_1 = tiles.addcmul_(alpha[:, :, :, None] * S, b_[:, :, :, None], u[:, :, None])
    dq_1 = tiles.addcmul_(dq_1, k[:, :, :, None], v[:, :, None])
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    dq_ = (do[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    dq = dq_ * rsqrt_K
    del dq_
    dk_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dk_2_rows = scan.Rows(steps, H, True)
    du_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (
        dk_1_c,
        b__c,
        a__c,
        alpha_c,
    ) in scan.each(
        steps,
        H,
        (
            dk_1,
            b_,
            a_[:, :, :, None],
            alpha[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dk_2 = dS + dk_1_c
        du_1 = b__c[:, :, None] * dk_2
        du = torch.sum(du_1, 1, out=du_rows.room(n))
        dS_before = tiles.addcmul_(a__c * du[:, None], alpha_c, dk_2)
        dk_2_rows.put(dk_2)
        du_rows.put(du)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dk_2 = dk_2_rows.joined()
    du = du_rows.joined()
    del dk_2_rows
    del du_rows
    del dk_1
    dk_3 = v[:, :, None] * dk_2
    dv_1 = k[:, :, :, None] * dk_2
    dk = dk_3.sum(3)
    del dk_3
    dv = dv_1.sum(2)
    del dv_1
    db_1 = u[:, :, None] * dk_2
    del u
    db = db_1.sum(3)
    del db_1
    da = (du[..., None, :] @ S.mT).squeeze(-2)
    del du
    dalpha_1 = S * dk_2
    del dk_2
    dalpha = dalpha_1.sum(3)
    del dalpha_1
    dg = alpha * dalpha
    del alpha, dalpha
    return (dq, dk, dv, da, db, dg), (dS_end,)
