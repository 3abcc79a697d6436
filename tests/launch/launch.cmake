# launch/mpirun.sh; job scripts on a real Slurm, a cluster of two virtual nodes that lives from the first of these tests to the last; and
# hosts in network namespaces. Skipped, with a reason, where Slurm, root or namespaces are missing.
set(launch_environment "${test_environment};CAKE_SANITIZE=${CAKE_SANITIZE}")
set(slurm_environment "${launch_environment};CAKE_TEST_SLURM=${CMAKE_CURRENT_BINARY_DIR}/slurm")

add_test(NAME launch.mpirun COMMAND ${CMAKE_CURRENT_LIST_DIR}/mpirun_test.sh)
set_tests_properties(launch.mpirun PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120 RUN_SERIAL TRUE
  ENVIRONMENT "${launch_environment}")

foreach(case start stop generate site batch array cancel requeue time_is_up time_limit singletons exit_codes dead_rank)
  add_test(NAME launch.slurm.${case} COMMAND ${CMAKE_CURRENT_LIST_DIR}/slurm_test.sh ${case})
  set_tests_properties(launch.slurm.${case} PROPERTIES LABELS slow SKIP_RETURN_CODE 77 TIMEOUT 300 RUN_SERIAL TRUE
    RESOURCE_LOCK slurm ENVIRONMENT "${slurm_environment}")
  if(case STREQUAL start)
    set_tests_properties(launch.slurm.${case} PROPERTIES FIXTURES_SETUP slurm)
  elseif(case STREQUAL stop)
    set_tests_properties(launch.slurm.${case} PROPERTIES FIXTURES_CLEANUP slurm)
  else()
    set_tests_properties(launch.slurm.${case} PROPERTIES FIXTURES_REQUIRED slurm)
  endif()
endforeach()

foreach(case two_hosts three_hosts replicas cut_in_prefill cut_in_decode)
  add_test(NAME launch.hosts.${case} COMMAND ${CMAKE_CURRENT_LIST_DIR}/hosts_test.sh ${case})
  set_tests_properties(launch.hosts.${case} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120 RUN_SERIAL TRUE
    ENVIRONMENT "${launch_environment}")
endforeach()
set_tests_properties(launch.hosts.cut_in_prefill launch.hosts.cut_in_decode PROPERTIES LABELS slow)
