"""titans_linear: generated from its spec by rnnc; do not edit.

M[t] = eta * M[t-1] + theta * u @ (v - S[t-1].T @ u).T
S[t] = eta * M[t-1] + (1 - alpha) * S[t-1] + theta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  alpha = sigmoid(a)
  eta = sigmoid(b)
  theta = sigmoid(c)
  u = unit(k)

In a chunk of C tokens with the incoming states M_in, S_in:
  D = [[eta, 0], [eta, 1 - alpha]], of (M, S)
  w_M = theta * u,  w_S = theta * u,  f_S = -u
  q_ = unit(q)
  X and Y go through the states, over which D, T and G are matrices
  T[i,j] = D[i] ... D[j+1],  T[j,j] = I;  G[i] = D[i] ... D[1],  G[0] = I
  P[i,j] = sum_XY T[i-1,j]_XY f_X[i]^T w_Y[j],  j < i
  U = (I - P)^-1 (v + sum_XY (G[i-1]_XY f_X) Y_in)
  A[i,j] = sum_Y T[i,j]_S,Y q_[i]^T w_Y[j],  j <= i
  r = A U + sum_Y (G[i]_S,Y q_) Y_in
  X_out = sum_Y G[C]_XY Y_in + (sum_Y T[C,j]_XY w_Y[j])^T U
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "titans_linear"
SPEC_HASH = "de8d595226046b6c1780000f7a617ba14f6ab6d42d26269fb04591382e161d99"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()), ("c", ()))
PARAMS = ()
STATES = (("M", ("K", "V")), ("S", ("K", "V")))
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = torch.sigmoid(b_)
    x11 = valid * x9
    del x9
    x18 = torch.sigmoid(c)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x33 = torch.sigmoid(b_)
    x68 = k @ k.mT
    x86 = q * q
    x87 = x86.sum(3)
    del x86
    x88 = x87 + 1e-06
    del x87
    x89 = torch.rsqrt(x88)
    del x88
    x105 = q @ k.mT
    x140 = F.logsigmoid(b_)
    x141 = x140 * tiles.LOG2E
    del x140
    x142 = torch.where(valid > 0, x141, 0)
    del x141
    x143 = a_ * -1
    x144 = F.logsigmoid(x143)
    del x143
    x145 = x144 * tiles.LOG2E
    del x144
    x146 = torch.where(valid > 0, x145, 0)
    del x145
    x147 = tiles.prefix_sum(x142, 2, exclusive=True)
    x148 = torch.exp2(x147)
    del x147
    x149 = tiles.segment_sum(x146, exclusive=True, strict=True)
    x150 = torch.exp2(x149)
    del x149
    x155 = tiles.prefix_sum(x146, 2, exclusive=True)
    x156 = torch.exp2(x155)
    del x155
    x157 = tiles.segment_sum(x142, exclusive=True, strict=True)
    x158 = torch.exp2(x157)
    del x157
    x176 = tiles.segment_sum(x146)
    x177 = torch.exp2(x176)
    del x176
    x180 = tiles.prefix_sum(x146, 2)
    x181 = torch.exp2(x180)
    del x180
    x196 = x142.sum(2)
    x197 = torch.exp2(x196)
    del x196
    x199 = tiles.suffix_sum(x142, 2, exclusive=True)
    del x142
    x200 = torch.exp2(x199)
    del x199
    x204 = tiles.suffix_sum(x146, 2, exclusive=True)
    x205 = torch.exp2(x204)
    del x204
    x211 = x146.sum(2)
    del x146
    x212 = torch.exp2(x211)
    del x211
    x950 = x89[:, :, :, None] * x177
    x993 = x23[:, :, :, None] * x150
    x1083 = valid * x18
    x1084 = x23 * x1083
    del x1083
    x1085 = valid * x18
    del x18
    x1087 = x23 * x1085
    del x1085
    x1088 = x11 * x148
    del x148
    x1089 = x23 * x156
    del x156
    x1091 = x89 * x181
    del x181
    x1092 = x200 * x1087
    del x200
    x1096 = x11 * x205
    del x11
    x1100 = valid * x33
    del x33
    x1103 = x205 * x1088
    x1119 = x1092[:, :, :, None] * k
    del x1092
    x1120 = x1103.sum(2)
    del x1103
    x1122 = x1096[:, :, :, None] * x158
    del x1096
    x1123 = x1122.sum(2)
    del x1122
    x1127 = tiles.addcmul_(x1123 * x1087, x205, x1087)
    del x1087, x1123, x205
    x1128 = x1127[:, :, :, None] * k
    del x1127
    x1141 = (x150 @ x1088[..., None]).squeeze(-1)
    x1142 = x1100[:, :, None] * x150
    del x150
    x1144 = x1142 @ x158
    del x1142
    x1145 = tiles.product(x1144, x23[:, :, :, None], x1084[:, :, None])
    del x1144
    x1147 = tiles.addcmul_(-x1145, x1084[:, :, None], x993, -1)
    del x1145, x993
    x1148 = x68 * x1147
    del x1147, x68
    x1149 = x23 * x1141
    del x1141, x23
    x1154 = (x177 @ x1088[..., None]).squeeze(-1)
    del x1088
    x1155 = x89 * x1154
    del x1154
    x1157 = x1100[:, :, None] * x177
    del x1100, x177
    x1159 = x1157 @ x158
    del x1157, x158
    x1160 = tiles.product(x1159, x89[:, :, :, None], x1084[:, :, None])
    del x1159, x89
    x1162 = torch.addcmul(x1160, x1084[:, :, None], x950)
    del x1084, x1160, x950
    x1163 = x105 * x1162
    del x105, x1162
    x1164 = tiles.inverse(x1148)
    del x1148
    x1352 = x1091[:, :, :, None] * q
    del x1091
    x1354 = x1149[:, :, :, None] * k
    del x1149
    x1356 = x1089[:, :, :, None] * k
    del x1089
    x1360 = x1155[:, :, :, None] * q
    del x1155
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    x1365_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        x1354_c,
        x1356_c,
        x1164_c,
        x1352_c,
        x1360_c,
        x1163_c,
        x197_c,
        x1119_c,
        x1120_c,
        x212_c,
        x1128_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x1354,
            x1356,
            x1164,
            x1352,
            x1360,
            x1163,
            x197[:, :, None, None],
            x1119.mT,
            x1120[:, :, None, None],
            x212[:, :, None, None],
            x1128.mT,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x1358 = scan.addmm(torch.baddbmm(v_c, x1354_c, M, alpha=-1), x1356_c, S, -1)
        x1362 = torch.bmm(x1164_c, x1358)
        x1365 = torch.bmm(x1352_c, S, out=x1365_rows.room(n))
        x1365 = scan.addmm(scan.addmm(x1365, x1360_c, M), x1163_c, x1362)
        x1367 = scan.addmm(x197_c * M, x1119_c, x1362)
        x1369 = tiles.addcmul_(scan.scale(S, x212_c, own), x1120_c, M)
        x1369 = scan.addmm(x1369, x1128_c, x1362)
        x1365_rows.put(x1365)
        M, S = x1367, x1369
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x1365 = x1365_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x1365_rows
    del x1119, x1120, x1128, x1163, x1352, x1354, x1356, x1360, x197, x212
    return (x1365,), (M_end, S_end), (M, S, x1164) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = torch.sigmoid(b_)
    x11 = valid * x9
    del x9
    x18 = torch.sigmoid(c)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x33 = torch.sigmoid(b_)
    x68 = k @ k.mT
    x140 = F.logsigmoid(b_)
    x141 = x140 * tiles.LOG2E
    del x140
    x142 = torch.where(valid > 0, x141, 0)
    del x141
    x143 = a_ * -1
    x144 = F.logsigmoid(x143)
    del x143
    x145 = x144 * tiles.LOG2E
    del x144
    x146 = torch.where(valid > 0, x145, 0)
    del x145
    x147 = tiles.prefix_sum(x142, 2, exclusive=True)
    x148 = torch.exp2(x147)
    del x147
    x149 = tiles.segment_sum(x146, exclusive=True, strict=True)
    x150 = torch.exp2(x149)
    del x149
    x155 = tiles.prefix_sum(x146, 2, exclusive=True)
    x156 = torch.exp2(x155)
    del x155
    x157 = tiles.segment_sum(x142, exclusive=True, strict=True)
    x158 = torch.exp2(x157)
    del x157
    x196 = x142.sum(2)
    x197 = torch.exp2(x196)
    del x196
    x199 = tiles.suffix_sum(x142, 2, exclusive=True)
    del x142
    x200 = torch.exp2(x199)
    del x199
    x204 = tiles.suffix_sum(x146, 2, exclusive=True)
    x205 = torch.exp2(x204)
    del x204
    x211 = x146.sum(2)
    del x146
    x212 = torch.exp2(x211)
    del x211
    x993 = x23[:, :, :, None] * x150
    x1083 = valid * x18
    x1084 = x23 * x1083
    del x1083
    x1085 = valid * x18
    del x18
    x1087 = x23 * x1085
    del x1085
    x1088 = x11 * x148
    del x148
    x1089 = x23 * x156
    del x156
    x1092 = x200 * x1087
    del x200
    x1096 = x11 * x205
    del x11
    x1100 = valid * x33
    del x33
    x1103 = x205 * x1088
    x1119 = x1092[:, :, :, None] * k
    del x1092
    x1120 = x1103.sum(2)
    del x1103
    x1122 = x1096[:, :, :, None] * x158
    del x1096
    x1123 = x1122.sum(2)
    del x1122
    x1127 = tiles.addcmul_(x1123 * x1087, x205, x1087)
    del x1087, x1123, x205
    x1128 = x1127[:, :, :, None] * k
    del x1127
    x1141 = (x150 @ x1088[..., None]).squeeze(-1)
    del x1088
    x1142 = x1100[:, :, None] * x150
    del x1100, x150
    x1144 = x1142 @ x158
    del x1142, x158
    x1145 = tiles.product(x1144, x23[:, :, :, None], x1084[:, :, None])
    del x1144
    x1147 = tiles.addcmul_(-x1145, x1084[:, :, None], x993, -1)
    del x1084, x1145, x993
    x1148 = x68 * x1147
    del x1147, x68
    x1149 = x23 * x1141
    del x1141, x23
    x1164 = tiles.inverse(x1148)
    del x1148
    x1354 = x1149[:, :, :, None] * k
    del x1149
    x1356 = x1089[:, :, :, None] * k
    del x1089
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        x1354_c,
        x1356_c,
        x1164_c,
        x197_c,
        x1119_c,
        x1120_c,
        x212_c,
        x1128_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x1354,
            x1356,
            x1164,
            x197[:, :, None, None],
            x1119.mT,
            x1120[:, :, None, None],
            x212[:, :, None, None],
            x1128.mT,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x1358 = scan.addmm(torch.baddbmm(v_c, x1354_c, M, alpha=-1), x1356_c, S, -1)
        x1362 = torch.bmm(x1164_c, x1358)
        x1367 = scan.addmm(x197_c * M, x1119_c, x1362)
        x1369 = tiles.addcmul_(scan.scale(S, x212_c, own), x1120_c, M)
        x1369 = scan.addmm(x1369, x1128_c, x1362)
        M, S = x1367, x1369
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x1119, x1120, x1128, x1354, x1356, x197, x212
    return (), (M_end, S_end), (M, S, x1164) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, c) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (M, S, x1164) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    x9 = torch.sigmoid(b_)
    x11 = valid * x9
    x14 = torch.sigmoid(a_)
    x18 = torch.sigmoid(c)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x33 = torch.sigmoid(b_)
    x39 = k @ M
    x44 = k @ S
    x68 = k @ k.mT
    x86 = q * q
    x87 = x86.sum(3)
    del x86
    x88 = x87 + 1e-06
    del x87
    x89 = torch.rsqrt(x88)
    del x88
    x105 = q @ k.mT
    x140 = F.logsigmoid(b_)
    x141 = x140 * tiles.LOG2E
    del x140
    x142 = torch.where(valid > 0, x141, 0)
    del x141
    x143 = a_ * -1
    x144 = F.logsigmoid(x143)
    del x143
    x145 = x144 * tiles.LOG2E
    del x144
    x146 = torch.where(valid > 0, x145, 0)
    del x145
    x147 = tiles.prefix_sum(x142, 2, exclusive=True)
    x148 = torch.exp2(x147)
    del x147
    x149 = tiles.segment_sum(x146, exclusive=True, strict=True)
    x150 = torch.exp2(x149)
    del x149
    x155 = tiles.prefix_sum(x146, 2, exclusive=True)
    x156 = torch.exp2(x155)
    del x155
    x157 = tiles.segment_sum(x142, exclusive=True, strict=True)
    x158 = torch.exp2(x157)
    del x157
    x176 = tiles.segment_sum(x146)
    x177 = torch.exp2(x176)
    del x176
    x180 = tiles.prefix_sum(x146, 2)
    x181 = torch.exp2(x180)
    del x180
    x196 = x142.sum(2)
    x197 = torch.exp2(x196)
    del x196
    x199 = tiles.suffix_sum(x142, 2, exclusive=True)
    del x142
    x200 = torch.exp2(x199)
    del x199
    x204 = tiles.suffix_sum(x146, 2, exclusive=True)
    x205 = torch.exp2(x204)
    del x204
    x211 = x146.sum(2)
    del x146
    x212 = torch.exp2(x211)
    del x211
    x259 = tiles.LN2
    x466 = x158 * x259
    x499 = tiles.LOG2E
    x506 = b_ * -1
    x507 = torch.sigmoid(x506)
    del x506
    x514 = do @ S.mT
    x519 = do @ M.mT
    x571 = -x18 + 1
    x597 = -x9 + 1
    x643 = x18 * x571
    del x571
    x646 = x9 * x597
    x950 = x89[:, :, :, None] * x177
    x993 = x23[:, :, :, None] * x150
    x1083 = valid * x18
    x1084 = x23 * x1083
    del x1083
    x1085 = valid * x18
    del x18
    x1086 = valid * x23
    x1087 = x23 * x1085
    x1088 = x11 * x148
    x1089 = x23 * x156
    x1090 = valid * x9
    del x9
    x1091 = x89 * x181
    x1092 = x200 * x1087
    x1095 = valid * x205
    x1096 = x11 * x205
    x1097 = x23 * x23
    x1099 = x23 * x1097
    del x1097
    x1100 = valid * x33
    del x33
    x1103 = x205 * x1088
    x1105 = x148 * x1090
    x1109 = x89 * x89
    x1110 = x1109 * x89
    del x1109
    x1116 = valid * x499
    x1117 = x1090 * x259
    del x1090
    x1120 = x1103.sum(2)
    x1122 = x1096[:, :, :, None] * x158
    x1123 = x1122.sum(2)
    del x1122
    x1127 = tiles.addcmul_(x1123 * x1087, x205, x1087)
    x1134 = x1091[:, :, :, None] * do
    x1141 = (x150 @ x1088[..., None]).squeeze(-1)
    x1142 = x1100[:, :, None] * x150
    x1144 = x1142 @ x158
    del x1142
    x1145 = tiles.product(x1144, x23[:, :, :, None], x1084[:, :, None])
    x1147 = tiles.addcmul_(-x1145, x1084[:, :, None], x993, -1)
    del x1145
    x1149 = x23 * x1141
    x1152 = torch.addcmul(v, x1149[:, :, :, None], x39, value=-1)
    x1152 = tiles.addcmul_(x1152, x1089[:, :, :, None], x44, -1)
    x1154 = (x177 @ x1088[..., None]).squeeze(-1)
    x1155 = x89 * x1154
    x1157 = x1100[:, :, None] * x177
    del x1100
    x1159 = x1157 @ x158
    del x1157
    x1160 = tiles.product(x1159, x89[:, :, :, None], x1084[:, :, None])
    x1162 = torch.addcmul(x1160, x1084[:, :, None], x950)
    del x1160
    x1163 = x105 * x1162
    x1165 = x1164 @ x1152
    del x1152
    x1173 = x1089[:, :, :, None] * k
    x1174 = x1163.mT @ do
    del x1163
    x1180 = x1155[:, :, :, None] * q
    x1211 = do @ x1165.mT
    x1212 = x1162 * x1211
    del x1162
    x1213 = x105 * x1211
    del x105, x1211
    x1214 = x177 * x1213
    x1215 = x1084[:, :, None] * x1214
    x1216 = x1084[:, :, None] * x1213
    x1218 = x89[:, :, :, None] * x1214
    del x1214
    x1219 = x1218.sum(2)
    del x1218
    x1221 = x1215.sum(3)
    del x1215
    x1222 = x1159 * x1213
    del x1159
    x1223 = x1084[:, :, None] * x1222
    x1224 = x89[:, :, :, None] * x1222
    del x1222
    x1225 = x1224.sum(2)
    del x1224
    x1227 = x1223.sum(3)
    del x1223
    x1228 = x1216 @ x158.mT
    x1229 = x950.mT @ x1213
    del x1213, x950
    x1231 = x177 * x1228
    del x1228
    x1232 = x89[:, :, :, None] * x1231
    del x1231
    x1234 = x1232.sum(2)
    x1277 = tiles.product(x1229, x11[:, :, :, None], x1084[:, :, None])
    del x1229
    x1304 = x1212.mT @ q
    x1308 = x1219 * x1086
    x1309 = x1225 * x1086
    x1316 = x1219 * x1085
    del x1219
    x1317 = x1225 * x1085
    del x1225
    x1323 = valid * x1234
    del x1234
    x1330 = x1149[:, :, :, None] * k
    x1370 = q * x514
    x1371 = x1370.sum(3)
    del x1370
    x1377 = x1371 * x1091 * x259
    x1378 = tiles.suffix_sum(x1377, 2)
    del x1377
    x1381 = q * x519
    x1382 = x1381.sum(3)
    del x1381
    x1384 = tiles.addcmul_(x1221 + x1227, x181, x1371)
    x1384 = tiles.addcmul_(x1384, x1382, x1154)
    del x1154, x1221, x1227, x1371, x181
    x1385 = x1110 * x1384
    del x1110, x1384
    x1387 = tiles.addcmul_(x1091[:, :, :, None] * x514, x1155[:, :, :, None], x519)
    x1387 = tiles.addcmul_(x1387, x1385[:, :, :, None], q, -1)
    x1387 = tiles.addmm_(x1387, x1212, k)
    del x1091, x1155, x1212, x1385, x514, x519
    x1388 = x89 * x1382
    del x1382
    x1390 = tiles.addcmul_(x1388[:, :, :, None] * x1105[:, :, None], x89[:, :, :, None], x1216)
    del x1216, x89
    x1391 = x177 * x1390 * x259
    del x1390
    x1392 = torch.addcmul(x1391, x1117[:, :, None], x1232)
    del x1232, x1391
    x1393 = tiles.segment_sum_grad(x1392)
    del x1392
    x1396 = (x1388[..., None, :] @ x177).squeeze(-2)
    del x1388, x177
    x1407 = x1127[:, :, :, None] * k
    x1409 = x1092[:, :, :, None] * k
    x257_rows = scan.Rows(steps, H, True)
    x265_rows = scan.Rows(steps, H, True)
    x297_rows = scan.Rows(steps, H, True)
    x1182_rows = scan.Rows(steps, H, True)
    x1202_rows = scan.Rows(steps, H, True)
    x1412_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    own = False
    for n, (
        x1407_c,
        x1409_c,
        x1174_c,
        x1164_c,
        S_c,
        M_c,
        x1165_c,
        x212_c,
        q_c,
        x1134_c,
        x1173_c,
        x1120_c,
        x197_c,
        x1180_c,
        do_c,
        x1330_c,
    ) in scan.each(
        steps,
        H,
        (
            x1407,
            x1409,
            x1174,
            x1164.mT,
            S,
            M,
            x1165,
            x212[:, :, None, None],
            q.mT,
            x1134,
            x1173.mT,
            x1120[:, :, None, None],
            x197[:, :, None, None],
            x1180.mT,
            do,
            x1330.mT,
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x1411 = scan.addmm(torch.baddbmm(x1174_c, x1407_c, dS), x1409_c, dM)
        x1412 = torch.bmm(x1164_c, x1411, out=x1412_rows.room(n))
        x256 = S_c * dS
        x257 = x256.sum(1)
        x264 = M_c * dS
        x265 = x264.sum(1)
        x296 = M_c * dM
        x297 = x296.sum(1)
        x1182 = torch.bmm(x1165_c, dS.mT, out=x1182_rows.room(n))
        x1202 = torch.bmm(x1165_c, dM.mT, out=x1202_rows.room(n))
        x1483 = scan.addmm(scan.addmm(x212_c * dS, q_c, x1134_c), x1173_c, x1412, -1)
        x1484 = tiles.addcmul_(scan.scale(dM, x197_c, own), x1120_c, dS)
        x1484 = scan.addmm(scan.addmm(x1484, x1180_c, do_c), x1330_c, x1412, -1)
        x257_rows.put(x257)
        x265_rows.put(x265)
        x297_rows.put(x297)
        x1182_rows.put(x1182)
        x1202_rows.put(x1202)
        x1412_rows.put(x1412)
        dM, dS = x1484, x1483
        own = True
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x257 = x257_rows.joined()
    x265 = x265_rows.joined()
    x297 = x297_rows.joined()
    x1182 = x1182_rows.joined()
    x1202 = x1202_rows.joined()
    x1412 = x1412_rows.joined()
    del x257_rows
    del x265_rows
    del x297_rows
    del x1182_rows
    del x1202_rows
    del x1412_rows
    del x1120, x1134, x1173, x1174, x1180, x1330, x1407, x1409
    x258 = x257.sum(2)
    del x257
    x261 = x212 * x258 * x259
    del x212, x258
    x262 = x261[:, :, None].expand(-1, -1, C)
    del x261
    x266 = x265.sum(2)
    del x265
    x298 = x297.sum(2)
    del x297
    x300 = x197 * x298 * x259
    del x197, x298
    x301 = x300[:, :, None].expand(-1, -1, C)
    del x300
    x1108 = x266 * x259
    x1131 = tiles.product(x148, x1095, x266[:, :, None])
    del x148
    x1184 = k * x1182
    x1185 = x1184.sum(3)
    del x1184
    x1186 = x205 * x1185
    x1190 = x1123 * x1185
    del x1123
    x1194 = x1185 * x1084
    x1195 = x1194[:, :, None] * x158
    x1196 = x1195.sum(3)
    del x1195
    x1199 = tiles.addcmul_(x266[:, :, None] * x1088, x1185, x1087)
    x1199 = tiles.addcmul_(x1199, x11, x1196)
    del x1087, x1185, x266
    x1200 = x205 * x1199 * x259
    del x1199, x205
    x1201 = tiles.prefix_sum(x1200, 2, exclusive=True)
    del x1200
    x1204 = k * x1202
    x1205 = x1204.sum(3)
    del x1204
    x1206 = x200 * x1205
    del x200
    x1209 = x1205 * x1092 * x259
    del x1205
    x1210 = tiles.prefix_sum(x1209, 2, exclusive=True)
    del x1209
    x1282 = tiles.product(x466, x1096[:, :, :, None], x1194[:, :, None])
    del x1096, x1194
    x1335 = tiles.addcmul_(x1086 * x1186, x1086, x1190)
    x1335 = tiles.addcmul_(x1335, x1086, x1206)
    x1337 = torch.addcmul(x1131, x1196, x1095)
    del x1095, x1131, x1196
    x1414 = x1412 @ x1165.mT
    del x1165
    x1415 = x1414.tril(-1)
    del x1414
    x1416 = x44 * x1412
    del x44
    x1417 = x1416.sum(3)
    del x1416
    x1418 = x1417 * x1089 * -1 * x259
    x1419 = x39 * x1412
    del x39
    x1420 = x1419.sum(3)
    del x1419
    x1421 = x23 * x1420
    x1422 = x1421 * -1
    x1423 = x1147 * x1415
    del x1147
    x1424 = x68 * x1415
    del x1415, x68
    x1425 = x150 * x1424
    x1426 = x1084[:, :, None] * x1425
    x1427 = x1426.sum(3)
    del x1426
    x1428 = x23[:, :, :, None] * x1425
    del x1425
    x1429 = x1428.sum(2)
    del x1428
    x1431 = x1144 * x1424
    del x1144
    x1432 = x1084[:, :, None] * x1431
    x1433 = x1432.sum(3)
    del x1432
    x1434 = x23[:, :, :, None] * x1431
    del x1431
    x1435 = x1434.sum(2)
    del x1434
    x1437 = x1084[:, :, None] * x1424
    x1439 = x1437 @ x158.mT
    del x158
    x1440 = x993.mT @ x1424
    del x1424, x993
    x1442 = x150 * x1439
    del x1439
    x1443 = x23[:, :, :, None] * x1442
    del x1442
    x1445 = x1443.sum(2)
    x1448 = tiles.product(x1440, x11[:, :, :, None], x1084[:, :, None])
    del x1084, x11, x1440
    x1449 = x1277 - x1448
    del x1277, x1448
    x1451 = torch.addcmul(x1282, x1449, x466)
    del x1282, x1449, x466
    x1452 = tiles.segment_sum_grad(x1451, exclusive=True)
    del x1451
    x1453 = tiles.suffix_sum(x1418, 2, exclusive=True)
    del x1418
    x1454 = (x1422[..., None, :] @ x150).squeeze(-2)
    del x1422
    x1457 = tiles.addcmul_(x23[:, :, :, None] * -1 * x1437, x1421[:, :, :, None], x1105[:, :, None], -1)
    del x1105, x1421, x1437, x23
    x1458 = x150 * x1457 * x259
    del x1457, x150
    x1460 = torch.addcmul(x1458, x1117[:, :, None], x1443, value=-1)
    del x1117, x1443, x1458
    x1461 = tiles.segment_sum_grad(x1460, exclusive=True)
    del x1460
    x1463 = x1423.mT @ k
    x1466 = tiles.addcmul_(x1308 + x1309, x1429, x1086, -1)
    x1466 = tiles.addcmul_(x1466, x1435, x1086, -1)
    del x1086, x1308, x1309
    x1473 = tiles.addcmul_(x1316 + x1317, x156, x1417, -1)
    x1473 = tiles.addcmul_(tiles.addcmul_(x1473, x1141, x1420, -1), x1429, x1085, -1)
    x1473 = tiles.addcmul_(x1473, x1435, x1085, -1)
    del x1141, x1316, x1317, x1417, x1420, x1429, x1435, x156
    x1475 = torch.addcmul(x1323, valid, x1445, value=-1)
    del x1323, x1445
    x1477 = x1412 @ S.mT
    x1479 = x1412 @ M.mT
    x1481 = tiles.addcmul_(-x1427 - x1433, x1085, x1186)
    x1481 = tiles.addcmul_(tiles.addcmul_(x1481, x1085, x1190), x1085, x1206)
    del x1085, x1186, x1190, x1206, x1427, x1433
    x1485 = tiles.addcmul_(x643 * x1466, x643, x1335)
    del x1335, x1466, x643
    x1489 = tiles.addcmul_(x1481 * -1 * x1099, x1473, x1099, -1)
    del x1099, x1473, x1481
    x1491 = tiles.addcmul_(x1304 + x1463, x1127[:, :, :, None], x1182)
    x1491 = tiles.addcmul_(x1491, x1092[:, :, :, None], x1202)
    x1491 = tiles.addcmul_(x1491, x1489[:, :, :, None], k)
    x1491 = tiles.addcmul_(x1491, x1089[:, :, :, None], x1477, -1)
    x1491 = tiles.addcmul_(x1491, x1149[:, :, :, None], x1479, -1)
    x1491 = tiles.addmm_(x1491, x1423, k)
    del x1089, x1092, x1127, x1149, x1182, x1202, x1304, x1423, x1463, x1477, x1479, x1489
    x1492 = x262 + x1378 + x1201 + x1393 + x1453 + x1461
    del x1201, x1378, x1393, x1453, x1461, x262
    x1493 = tiles.product(x14, x1492, x1116, (-1))
    del x14, x1492
    x1494 = x1396 + x1454
    del x1396, x1454
    x1495 = x1494 * x1088
    del x1088, x1494
    x1496 = x1495 * x259
    x1497 = torch.addcmul(x1496, x1108[:, :, None], x1103)
    del x1103, x1108, x1496
    x1498 = tiles.suffix_sum(x1497, 2, exclusive=True)
    del x1497
    x1499 = x301 + x1210 + x1452 + x1498
    del x1210, x1452, x1498, x301
    x1500 = tiles.product(x507, x1499, x1116)
    del x1116, x1499, x507
    x1502 = tiles.addcmul_(torch.addcmul(x1500, x646, x1475), x597, x1495)
    x1502 = tiles.addcmul_(x1502, x646, x1337)
    del x1337, x1475, x1495, x1500, x597, x646
    return (x1387, x1491, x1412, x1493, x1502, x1485), (dM_end, dS_end)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = k * k
    x10 = x9.sum(2)
    del x9
    x12 = x10 + 1e-06
    del x10
    x13 = torch.rsqrt(x12)
    del x12
    x15 = (x13 * -1)[:, :, None] * k
    x19 = torch.sigmoid(b_)
    x21 = torch.sigmoid(c)
    x25 = torch.sigmoid(a_)
    x27 = -x25 + 1
    del x25
    x30 = q * q
    x31 = x30.sum(2)
    del x30
    x32 = x31 + 1e-06
    del x31
    x33 = torch.rsqrt(x32)
    del x32
    x34 = x33[:, :, None] * q
    del x33
    x132 = x13 * x21
    del x13, x21
    x178 = x132[:, :, None] * k
    del x132
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    x182_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        x15_c,
        v_c,
        x19_c,
        x178_c,
        x27_c,
        x34_c,
    ) in scan.each(
        steps,
        H,
        (
            x15,
            v,
            x19,
            x178,
            x27[:, :, None, None],
            x34,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x17 = (x15_c[..., None, :] @ S).squeeze(-2)
        x18 = v_c + x17
        x20 = x19_c[:, None, None] * M
        x179 = x178_c[:, :, None] * x18[:, None]
        x181 = scan.scale(S, x27_c, own) + x20 + x179
        x182 = (x34_c[..., None, :] @ x181).squeeze(-2)
        x180 = x20 + x179
        x182_rows.put(x182)
        M, S = x180, x181
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x182 = x182_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x182_rows
    del x15, x178, x19, x27, x34
    return (x182,), (M_end, S_end), (M, S) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = k * k
    x10 = x9.sum(2)
    del x9
    x12 = x10 + 1e-06
    del x10
    x13 = torch.rsqrt(x12)
    del x12
    x15 = (x13 * -1)[:, :, None] * k
    x19 = torch.sigmoid(b_)
    x21 = torch.sigmoid(c)
    x25 = torch.sigmoid(a_)
    x27 = -x25 + 1
    del x25
    x132 = x13 * x21
    del x13, x21
    x178 = x132[:, :, None] * k
    del x132
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        x15_c,
        v_c,
        x19_c,
        x178_c,
        x27_c,
    ) in scan.each(
        steps,
        H,
        (
            x15,
            v,
            x19,
            x178,
            x27[:, :, None, None],
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x17 = (x15_c[..., None, :] @ S).squeeze(-2)
        x18 = v_c + x17
        x20 = x19_c[:, None, None] * M
        x179 = x178_c[:, :, None] * x18[:, None]
        x180 = x20 + x179
        x181 = scan.scale(S, x27_c, own) + x20 + x179
        M, S = x180, x181
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x15, x178, x19, x27
    return (), (M_end, S_end), (M, S) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, c) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (M, S) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x9 = k * k
    x10 = x9.sum(2)
    del x9
    x12 = x10 + 1e-06
    del x10
    x13 = torch.rsqrt(x12)
    del x12
    x15 = (x13 * -1)[:, :, None] * k
    x17 = (x15[..., None, :] @ S).squeeze(-2)
    del x15
    x18 = v + x17
    del x17
    x19 = torch.sigmoid(b_)
    x21 = torch.sigmoid(c)
    x25 = torch.sigmoid(a_)
    x27 = -x25 + 1
    x30 = q * q
    x31 = x30.sum(2)
    del x30
    x32 = x31 + 1e-06
    del x31
    x33 = torch.rsqrt(x32)
    del x32
    x34 = x33[:, :, None] * q
    x98 = -x21 + 1
    x105 = -x19 + 1
    x132 = x13 * x21
    x133 = x13 * x132
    x134 = (x132[:, :, None] * k)[:, :, :, None] * x18[:, :, None]
    x136 = torch.addcmul(x134, x19[:, :, None, None], M)
    x136 = tiles.addcmul_(x136, x27[:, :, None, None], S)
    del x134
    x138 = (do[..., None, :] @ x136.mT).squeeze(-2)
    del x136
    x139 = do[:, :, None] * x34[:, :, :, None]
    del x34
    x141 = q * x138
    x142 = x141.sum(2)
    del x141
    x143 = tiles.product(x33, x33, x33, x142, (-0.5))
    del x142
    x177 = tiles.addcmul_(x33[:, :, None] * x138, x143[:, :, None], q, 2)
    del x138, x143, x33
    x183 = x133[:, :, None] * k
    del x133
    x145_rows = scan.Rows(steps, H, True)
    x151_rows = scan.Rows(steps, H, True)
    x156_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    for n, (
        x139_c,
        k_c,
        x19_c,
        x27_c,
        x183_c,
    ) in scan.each(
        steps,
        H,
        (
            x139,
            k,
            x19,
            x27[:, :, None, None],
            x183[:, :, :, None],
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x145 = dS + x139_c
        x151 = dM + dS + x139_c
        x155 = k_c[:, :, None] * x151
        x156 = x155.sum(1)
        x162 = x19_c[:, None, None] * x151
        x185 = tiles.addcmul_(x27_c * x145, x183_c, x156[:, None], -1)
        x145_rows.put(x145)
        x151_rows.put(x151)
        x156_rows.put(x156)
        dM, dS = x162, x185
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x145 = x145_rows.joined()
    x151 = x151_rows.joined()
    x156 = x156_rows.joined()
    del x145_rows
    del x151_rows
    del x156_rows
    del x139, x183
    x147 = S * x145
    del x145
    x148 = x147.sum(2)
    del x147
    x149 = x148.sum(2)
    del x148
    x150 = tiles.product(x25, x27, x149, (-1))
    del x149, x25, x27
    x152 = x18[:, :, None] * x151
    x153 = x152.sum(3)
    del x152
    x157 = x18 * x156
    del x18
    x158 = x157.sum(2)
    del x157
    x160 = x132[:, :, None] * x156
    del x156
    x161 = tiles.product(x158, x98, x132)
    del x98
    x163 = M * x151
    del x151
    x164 = x163.sum(2)
    del x163
    x165 = x164.sum(2)
    del x164
    x166 = tiles.product(x19, x165, x105)
    del x105, x165, x19
    x167 = (x160[..., None, :] @ S.mT).squeeze(-2)
    x168 = k * x167
    x169 = x168.sum(2)
    del x168
    x170 = tiles.addcmul_(-x169, x21, x158)
    del x158, x169, x21
    x171 = tiles.product(x13, x13, x13, x170, (-0.5))
    del x170
    x176 = tiles.addcmul_(x132[:, :, None] * x153, x171[:, :, None], k, 2)
    x176 = tiles.addcmul_(x176, x13[:, :, None], x167, -1)
    del x13, x132, x153, x167, x171
    return (x177, x176, x160, x150, x166, x161), (dM_end, dS_end)
