# launch/mpirun.sh; job scripts on a real Slurm of two virtual nodes; and hosts in network namespaces. Skipped, with a reason,
# where Slurm, root or namespaces are missing.
set(launch_environment "${test_environment};CAKE_SANITIZE=${CAKE_SANITIZE}")

add_test(NAME launch.mpirun COMMAND ${CMAKE_CURRENT_LIST_DIR}/mpirun_test.sh)
set_tests_properties(launch.mpirun PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120 RUN_SERIAL TRUE
  ENVIRONMENT "${launch_environment}")

foreach(case generate site batch array cancel requeue time_is_up time_limit singletons exit_codes dead_rank)
  add_test(NAME launch.slurm.${case} COMMAND ${CMAKE_CURRENT_LIST_DIR}/slurm_test.sh ${case})
  set_tests_properties(launch.slurm.${case} PROPERTIES LABELS slow SKIP_RETURN_CODE 77 TIMEOUT 300 RUN_SERIAL TRUE
    ENVIRONMENT "${launch_environment}")
endforeach()

foreach(case two_hosts three_hosts replicas cut_in_prefill cut_in_decode)
  add_test(NAME launch.hosts.${case} COMMAND ${CMAKE_CURRENT_LIST_DIR}/hosts_test.sh ${case})
  set_tests_properties(launch.hosts.${case} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120 RUN_SERIAL TRUE
    ENVIRONMENT "${launch_environment}")
endforeach()
set_tests_properties(launch.hosts.cut_in_prefill launch.hosts.cut_in_decode PROPERTIES LABELS slow)
