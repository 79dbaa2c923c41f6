; What compiled kernels need beside the C library, in place of Numba's runtime: memory for arrays, products by BLAS (at
; addresses that the loader knows), and an end where no memory could be had. `front.py` links it with them: KIND is "s" or
; "d", FLOAT the type.

declare ptr @malloc(i64)
declare void @free(ptr)
declare void @Py_FatalError(ptr) noreturn
declare void @nir_dynapse_KINDgemm(ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr)
declare void @nir_dynapse_KINDgemv(ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr)
declare FLOAT @nir_dynapse_KINDdot(ptr, ptr, ptr, ptr, ptr)

@failed = internal constant [52 x i8] c"nir_dynapse: a compiled kernel could not get memory\00"

; Arrays: a count of references, a pointer to the data at byte 24, and the data, aligned, behind that.
define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %wide = zext i32 %align to i64
  %head = add i64 %wide, 63
  %all = add i64 %size, %head
  %info = call ptr @malloc(i64 %all)
  %none = icmp eq ptr %info, null
  br i1 %none, label %end, label %fill
fill:
  store i64 1, ptr %info
  %address = ptrtoint ptr %info to i64
  %beyond = add i64 %address, %head
  %less = sub i64 0, %wide
  %start = and i64 %beyond, %less
  %data = inttoptr i64 %start to ptr
  %place = getelementptr i8, ptr %info, i64 24
  store ptr %data, ptr %place
  br label %end
end:
  ret ptr %info
}

define void @NRT_MemInfo_call_dtor(ptr %info) {
  call void @free(ptr %info)
  ret void
}

; The first thing that a call does that failed: there is nobody to hand an error to in a thread of a call of XLA's.
define void @numba_gil_ensure(ptr %state) noreturn {
  call void @Py_FatalError(ptr @failed)
  unreachable
}

; Strides of an array that is seen in another shape; the kernels do that to arrays without gaps only.
define i32 @numba_attempt_nocopy_reshape(i64 %nd, ptr %dims, ptr %strides, i64 %axes, ptr %shape, ptr %found, i64 %size, i32 %fortran) {
start:
  br label %next
next:
  %left = phi i64 [ %axes, %start ], [ %axis, %step ]
  %stride = phi i64 [ %size, %start ], [ %longer, %step ]
  %over = icmp eq i64 %left, 0
  br i1 %over, label %end, label %step
step:
  %axis = sub i64 %left, 1
  %place = getelementptr i64, ptr %found, i64 %axis
  store i64 %stride, ptr %place
  %from = getelementptr i64, ptr %shape, i64 %axis
  %length = load i64, ptr %from
  %longer = mul i64 %stride, %length
  br label %next
end:
  ret i32 1
}

define i32 @numba_xxgemm(i8 %kind, i8 %ta, i8 %tb, i64 %m, i64 %n, i64 %k, ptr %alpha, ptr %a, i64 %lda, ptr %b, i64 %ldb, ptr %beta, ptr %c, i64 %ldc) {
  %pta = alloca i8
  %ptb = alloca i8
  %numbers = alloca [6 x i32]
  store i8 %ta, ptr %pta
  store i8 %tb, ptr %ptb
  %m4 = trunc i64 %m to i32
  %n4 = trunc i64 %n to i32
  %k4 = trunc i64 %k to i32
  %a4 = trunc i64 %lda to i32
  %b4 = trunc i64 %ldb to i32
  %c4 = trunc i64 %ldc to i32
  %pn = getelementptr i32, ptr %numbers, i64 1
  %pk = getelementptr i32, ptr %numbers, i64 2
  %pa = getelementptr i32, ptr %numbers, i64 3
  %pb = getelementptr i32, ptr %numbers, i64 4
  %pc = getelementptr i32, ptr %numbers, i64 5
  store i32 %m4, ptr %numbers
  store i32 %n4, ptr %pn
  store i32 %k4, ptr %pk
  store i32 %a4, ptr %pa
  store i32 %b4, ptr %pb
  store i32 %c4, ptr %pc
  call void @nir_dynapse_KINDgemm(ptr %pta, ptr %ptb, ptr %numbers, ptr %pn, ptr %pk, ptr %alpha, ptr %a, ptr %pa, ptr %b, ptr %pb, ptr %beta, ptr %c, ptr %pc)
  ret i32 0
}

define i32 @numba_xxgemv(i8 %kind, i8 %t, i64 %m, i64 %n, ptr %alpha, ptr %a, i64 %lda, ptr %x, ptr %beta, ptr %y) {
  %pt = alloca i8
  %numbers = alloca [4 x i32]
  store i8 %t, ptr %pt
  %m4 = trunc i64 %m to i32
  %n4 = trunc i64 %n to i32
  %a4 = trunc i64 %lda to i32
  %pn = getelementptr i32, ptr %numbers, i64 1
  %pa = getelementptr i32, ptr %numbers, i64 2
  %p1 = getelementptr i32, ptr %numbers, i64 3
  store i32 %m4, ptr %numbers
  store i32 %n4, ptr %pn
  store i32 %a4, ptr %pa
  store i32 1, ptr %p1
  call void @nir_dynapse_KINDgemv(ptr %pt, ptr %numbers, ptr %pn, ptr %alpha, ptr %a, ptr %pa, ptr %x, ptr %p1, ptr %beta, ptr %y, ptr %p1)
  ret i32 0
}

define i32 @numba_xxdot(i8 %kind, i8 %conjugate, i64 %n, ptr %x, ptr %y, ptr %found) {
  %numbers = alloca [2 x i32]
  %n4 = trunc i64 %n to i32
  %p1 = getelementptr i32, ptr %numbers, i64 1
  store i32 %n4, ptr %numbers
  store i32 1, ptr %p1
  %value = call FLOAT @nir_dynapse_KINDdot(ptr %numbers, ptr %x, ptr %p1, ptr %y, ptr %p1)
  store FLOAT %value, ptr %found
  ret i32 0
}
