;; The inner loop of the checksum (RFC 1071): 16-bit little-endian words added up 32 bytes at a time.
;; At most 2^17 bytes: the result has 32 bits. vector-sum.ts has this assembled; a test compares.
(module
  (import "lane" "memory" (memory 1))

  (func $fold (param $a v128) (result i32)
    (i32.add
      (i32.add (i32x4.extract_lane 0 (local.get $a)) (i32x4.extract_lane 1 (local.get $a)))
      (i32.add (i32x4.extract_lane 2 (local.get $a)) (i32x4.extract_lane 3 (local.get $a)))))

  (func (export "sum") (param $at i32) (param $length i32) (result i32)
    (local $end i32) (local $a v128) (local $b v128) (local $total i32)
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const -32))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $a (i32x4.add (local.get $a) (i32x4.extadd_pairwise_i16x8_u (v128.load align=1 (local.get $at)))))
        (local.set $b (i32x4.add (local.get $b) (i32x4.extadd_pairwise_i16x8_u (v128.load offset=16 align=1 (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $next)))
    (local.set $total (call $fold (i32x4.add (local.get $a) (local.get $b))))
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const 30))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $total (i32.add (local.get $total) (i32.load16_u align=1 (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (br $next)))
    (if (result i32) (i32.and (local.get $length) (i32.const 1))
      (then (i32.add (local.get $total) (i32.load8_u (local.get $at))))
      (else (local.get $total))))

  (func (export "copy") (param $to i32) (param $at i32) (param $length i32) (result i32)
    (local $end i32) (local $a v128) (local $b v128) (local $x v128) (local $y v128) (local $total i32) (local $word i32)
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const -32))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $x (v128.load align=1 (local.get $at)))
        (local.set $y (v128.load offset=16 align=1 (local.get $at)))
        (v128.store align=1 (local.get $to) (local.get $x))
        (v128.store offset=16 align=1 (local.get $to) (local.get $y))
        (local.set $a (i32x4.add (local.get $a) (i32x4.extadd_pairwise_i16x8_u (local.get $x))))
        (local.set $b (i32x4.add (local.get $b) (i32x4.extadd_pairwise_i16x8_u (local.get $y))))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (br $next)))
    (local.set $total (call $fold (i32x4.add (local.get $a) (local.get $b))))
    (local.set $end (i32.add (local.get $at) (i32.and (local.get $length) (i32.const 30))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $word (i32.load16_u align=1 (local.get $at)))
        (i32.store16 align=1 (local.get $to) (local.get $word))
        (local.set $total (i32.add (local.get $total) (local.get $word)))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (local.set $to (i32.add (local.get $to) (i32.const 2)))
        (br $next)))
    (if (i32.and (local.get $length) (i32.const 1))
      (then
        (local.set $word (i32.load8_u (local.get $at)))
        (i32.store8 (local.get $to) (local.get $word))
        (local.set $total (i32.add (local.get $total) (local.get $word)))))
    (local.get $total)))
