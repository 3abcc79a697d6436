# The CUDA backend on the host (support/simt): each .cu of kernels/cuda as C++, run thread by thread. No toolkit is needed.
# ctest names of all that runs there contain "emulated".

# Test files of tests/kernels whose kernels are all written.
set(emulated_kernel_tests
  attention
  columns
  decode_attention
  decode_evict
  decode_scores
  golden_kernels
  linear
  memory
  norm
  pages
  random
  rope
  sample
  select
  window
)

set(simt_sources "")
foreach(file ${cuda_kernels})
  get_filename_component(name ${file} NAME_WE)
  set(as_cpp ${CMAKE_CURRENT_BINARY_DIR}/simt/${name}.cpp)
  file(CONFIGURE OUTPUT ${as_cpp} CONTENT "#include \"kernels/cuda/${name}.cu\"\n")
  list(APPEND simt_sources ${as_cpp})
endforeach()
file(GLOB simt_tests CONFIGURE_DEPENDS simt/*_test.cpp)
# Those that a GPU takes as well are host code alone.
set(kernels_of_tests ${simt_tests})
list(FILTER kernels_of_tests EXCLUDE REGEX "/(capture|decode_graph)_test.cpp$")
set_source_files_properties(${simt_sources} ${kernels_of_tests} simt/planted_bugs.cpp PROPERTIES
  COMPILE_DEFINITIONS CAKE_SIMT COMPILE_OPTIONS -Wno-unknown-pragmas)
list(APPEND simt_sources support/simt/device.cpp support/simt/memory.cpp ${PROJECT_SOURCE_DIR}/kernels/cuda/no_cudnn.cpp)

# The machine switches stacks: it is never compiled with a sanitizer, and tells the one that the kernels are compiled with.
set(machine_sources support/simt/copies.cpp support/simt/fiber.cpp support/simt/machine.cpp support/simt/shared_memory.cpp)
set_source_files_properties(${machine_sources} PROPERTIES COMPILE_OPTIONS -fno-sanitize=all)
function(add_machine name sanitizers)
  add_library(${name} OBJECT EXCLUDE_FROM_ALL ${machine_sources})
  target_link_libraries(${name} PRIVATE cake_base)
  target_include_directories(${name} PRIVATE support)
  if(sanitizers MATCHES thread)
    target_compile_definitions(${name} PRIVATE CAKE_SIMT_TSAN)
  elseif(sanitizers MATCHES address)
    target_compile_definitions(${name} PRIVATE CAKE_SIMT_ASAN)
  endif()
endfunction()

add_machine(cake_simt_machine "${CAKE_SANITIZE}")
add_library(cake_simt STATIC $<TARGET_OBJECTS:cake_cuda_host> $<TARGET_OBJECTS:cake_simt_machine> ${simt_sources})
target_link_libraries(cake_simt PUBLIC cake_base)
target_include_directories(cake_simt PUBLIC support)

# The program.
add_executable(cake_emulated ${PROJECT_SOURCE_DIR}/src/main.cpp)
target_link_libraries(cake_emulated PRIVATE cake_cli cake_simt cake_no_nccl)

# The kernel tests.
set(test_sources backends/emulated.cpp)
foreach(name ${emulated_kernel_tests})
  list(APPEND test_sources kernels/${name}_test.cpp)
endforeach()
add_executable(test_kernels_emulated ${test_sources})
target_link_libraries(test_kernels_emulated PRIVATE cake_test_support cake_cli cake_simt GTest::gmock_main)
gtest_discover_tests(test_kernels_emulated TEST_PREFIX kernels_emulated. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 300)
list(APPEND discovered test_kernels_emulated_TESTS)

# The engine.
file(GLOB engine_tests CONFIGURE_DEPENDS emulated/*_test.cpp)
list(FILTER engine_tests EXCLUDE REGEX "_(mpi|nccl)_test.cpp$")
add_executable(test_engine_emulated ${engine_tests})
target_link_libraries(test_engine_emulated PRIVATE cake_test_support cake_cli cake_simt cake_no_nccl GTest::gmock_main)
target_compile_definitions(test_engine_emulated PRIVATE CAKE_EMULATED_PROGRAM="$<TARGET_FILE:cake_emulated>")
add_dependencies(test_engine_emulated cake_emulated)
gtest_discover_tests(test_engine_emulated TEST_PREFIX engine_emulated. TEST_FILTER -Rest/* DISCOVERY_MODE PRE_TEST
  PROPERTIES TIMEOUT 600)
gtest_discover_tests(test_engine_emulated TEST_PREFIX engine_emulated. TEST_FILTER Rest/* DISCOVERY_MODE PRE_TEST
  TEST_LIST test_engine_emulated_slow_TESTS PROPERTIES LABELS slow TIMEOUT 600)
list(APPEND discovered test_engine_emulated_TESTS test_engine_emulated_slow_TESTS)
add_executable(test_engine_emulated_mpi emulated/golden_mpi_test.cpp mpi_main.cpp)
target_link_libraries(test_engine_emulated_mpi PRIVATE cake_test_support cake_cli cake_simt cake_no_nccl)
foreach(ranks 1 2 3)
  add_test(NAME engine_emulated.mpi_${ranks}_ranks
    COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe -n ${ranks} $<TARGET_FILE:test_engine_emulated_mpi>)
  set_tests_properties(engine_emulated.mpi_${ranks}_ranks PROPERTIES ENVIRONMENT "${test_environment}" TIMEOUT 600
    RUN_SERIAL TRUE)
endforeach()

# Ranks whose GPUs speak over NCCL, both emulated.
if(CAKE_WITH_NCCL)
  file(GLOB nccl_tests CONFIGURE_DEPENDS emulated/*_nccl_test.cpp)
  add_executable(test_nccl_emulated ${nccl_tests} support/fake_nccl/fake_nccl.cpp ${nccl_sources})
  target_include_directories(test_nccl_emulated SYSTEM PRIVATE ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(test_nccl_emulated PRIVATE cake_test_support cake_cli cake_simt GTest::gmock_main)
  gtest_discover_tests(test_nccl_emulated TEST_PREFIX nccl_emulated. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 300)
  list(APPEND discovered test_nccl_emulated_TESTS)
endif()

# No result may depend on the order of blocks and threads.
add_test(NAME kernels_emulated.backwards COMMAND test_kernels_emulated --gtest_brief=1)
set_tests_properties(kernels_emulated.backwards PROPERTIES ENVIRONMENT "${test_environment};CAKE_SIMT_REVERSED=1" TIMEOUT 300)

# The machine itself.
add_executable(test_machine_emulated ${simt_tests})
target_link_libraries(test_machine_emulated PRIVATE cake_test_support cake_cli cake_simt GTest::gmock_main)
gtest_discover_tests(test_machine_emulated TEST_PREFIX machine_emulated. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 300)
list(APPEND discovered test_machine_emulated_TESTS)

# ---- under sanitizers: every CUDA thread a thread, every shared array an array. Built when these tests run, of the few
# ---- sources that kernel tests need.
if(CAKE_SANITIZE)
  return()
endif()
file(GLOB base_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/base/*.cpp)
add_custom_target(emulated_sanitized)
add_test(NAME emulated_sanitized.build
  COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target emulated_sanitized)
set_tests_properties(emulated_sanitized.build PROPERTIES LABELS slow FIXTURES_SETUP emulated_sanitized TIMEOUT 1800)

function(add_sanitized_test name expected program)
  add_test(NAME ${name} COMMAND ${program} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS slow FIXTURES_REQUIRED emulated_sanitized TIMEOUT 900
    ENVIRONMENT "TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1;ASAN_OPTIONS=detect_leaks=0")
  if(expected)
    set_tests_properties(${name} PROPERTIES PASS_REGULAR_EXPRESSION "${expected}")
  endif()
endfunction()

foreach(kind tsan asan)
  set(sanitizer thread)
  set(bugs missing_barrier missing_warp_sync missing_copy_barrier)
  set(report "ThreadSanitizer: data race.*planted_bugs.cpp:")
  if(kind STREQUAL asan)
    set(sanitizer address)
    set(bugs out_of_bounds past_dynamic past_global)
    set(report "AddressSanitizer: .*planted_bugs.cpp:")
  endif()
  add_machine(cake_simt_machine_${kind} ${sanitizer})
  add_library(cake_simt_${kind} STATIC EXCLUDE_FROM_ALL ${cuda_host_sources} ${base_sources} ${simt_sources}
    $<TARGET_OBJECTS:cake_simt_machine_${kind}>)
  target_link_libraries(cake_simt_${kind} PUBLIC cake_flags fmt::fmt spdlog::spdlog Threads::Threads)
  target_include_directories(cake_simt_${kind} PUBLIC support)
  target_compile_options(cake_simt_${kind} PUBLIC -fsanitize=${sanitizer} -fno-omit-frame-pointer -O1)
  target_link_options(cake_simt_${kind} PUBLIC -fsanitize=${sanitizer})

  add_executable(test_kernels_emulated_${kind} EXCLUDE_FROM_ALL ${test_sources})
  target_link_libraries(test_kernels_emulated_${kind} PRIVATE cake_simt_${kind} cake_test_support GTest::gmock_main)
  # Products of matrices are no kernels of ours, and ThreadSanitizer does not see the barriers of the CPU's OpenMP. Golden
  # values are for the plain tests: the other suites have the same kernels.
  set(others Linear.*:*OnCpu.*:GoldenKernels.*)
  add_sanitized_test(kernels_emulated.${kind}_f32 "" test_kernels_emulated_${kind} --gtest_brief=1
    --gtest_filter=*/emulated_f32-${others})
  add_sanitized_test(kernels_emulated.${kind}_bf16 "" test_kernels_emulated_${kind} --gtest_brief=1
    --gtest_filter=-*/emulated_f32:${others})
  # The longest of all: where ctest runs several at a time, it starts them first.
  set_tests_properties(kernels_emulated.${kind}_f32 kernels_emulated.${kind}_bf16 PROPERTIES COST 1000)

  # Tests of the tests.
  add_executable(planted_bugs_${kind} EXCLUDE_FROM_ALL simt/planted_bugs.cpp)
  target_link_libraries(planted_bugs_${kind} PRIVATE cake_simt_${kind})
  add_sanitized_test(planted_bugs_emulated.${kind}_finds_none "" planted_bugs_${kind} none)
  foreach(bug ${bugs})
    add_sanitized_test(planted_bugs_emulated.${kind}_finds_${bug} ${report} planted_bugs_${kind} ${bug})
  endforeach()
  add_dependencies(emulated_sanitized test_kernels_emulated_${kind} planted_bugs_${kind})
endforeach()
