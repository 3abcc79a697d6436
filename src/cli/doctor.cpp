// `cake doctor`: looks at ranks, hosts, devices and what lies between them, before a job does.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/timer.h"
#include "cli/alike.h"
#include "cli/doctor_hosts.h"
#include "cli/doctor_links.h"
#include "cli/doctor_ranks.h"
#include "cli/doctor_table.h"
#include "cli/options.h"
#include "cli/session.h"
#include "engine/report.h"
#include "engine/request_report.h"

namespace cake {
namespace {

using nlohmann::json;

// What would end a job, and what would slow it down; the same on all ranks.
struct Complaints {
    std::vector<std::string> errors, warnings;

    // A step of all ranks whose usage error, the same on all, is a complaint and not the end.
    template <typename Step>
    bool attempt(Step&& step) {
        try {
            step();
            return true;
        } catch (const Error& error) {
            if (error.code() != ExitCode::Usage)
                throw;
            errors.emplace_back(error.what());
            return false;
        }
    }
};

std::unique_ptr<Backend> find_device(RunConfig config, World& world, Complaints& found) {
    const GpuSurvey gpus = find_gpus(config, world);
    std::unique_ptr<Backend> dev;
    const auto make = [&] { world.agree([&] { dev = make_backend(config, gpus, world); }); };
    if (!found.attempt(make)) {
        config.backend = "cpu";
        make();
    }
    return dev;
}

json look_at_sums(const RunConfig& config, World& world, Backend& dev, const Machine* machine) {
    json out = json::array();
    if (world.size() == 1)
        return out;
    const auto add = [&](const json& rows) { out.insert(out.end(), rows.begin(), rows.end()); };
    const auto host = make_cpu_backend(1);
    const std::size_t room = host->info().free_bytes / 2 / std::size_t(world.local_size());
    // A group of its own, so that what its sums needed goes with it.
    add(sums_json("MPI", time_sums(*host, *world.comm().split(0), room), world.size(),
                  dev.info().own_memory ? nullptr : machine));
    if (!dev.info().own_memory)
        return out;
    const auto group = make_group(config, world, dev, 0);
    const std::string over = group->name() == "nccl" ? "NCCL" : "GPU, " + group->name();
    const std::size_t gpu_room = std::min(room, dev.info().free_bytes / 2);
    add(sums_json(over, time_sums(dev, *group, gpu_room), world.size(), machine));
    return out;
}

void look_at_folders(const json& folders, Complaints& found) {
    for (const json& folder : folders) {
        if (!folder["error"].is_null())
            found.errors.push_back(fmt::format("{}: is it there, and is there room?",
                                               folder["error"].get<std::string>()));
        for (const std::string host : folder["missing_on"])
            found.warnings.push_back(fmt::format(
                "{} does not see what rank 0 writes in {}: give full paths in a folder that all "
                "hosts share, or copy models and configurations to each",
                host, folder["folder"].get<std::string>()));
    }
}

void look_at_clocks(const json& clocks, Complaints& found) {
    for (const json& clock : clocks) {
        const double ahead = clock["ahead_s"];
        if (std::abs(ahead) > 1)
            found.warnings.push_back(fmt::format(
                "the clock of {} is {:.1f} s {} that of rank 0: times in logs do not agree; let "
                "chrony or ntpd set it",
                clock["host"].get<std::string>(), std::abs(ahead),
                ahead > 0 ? "ahead of" : "behind"));
    }
}

// Whether all ranks have the model, the same one, with room for its weights. Null where none was named.
json look_at_model(const RunConfig& config, World& world, Backend& dev, Complaints& found) {
    const std::string& path = config.model.path;
    json out;
    if (path.empty())
        return out;
    found.attempt([&] {
        check_same_model(world, path);
        world.agree([&] {
            const ModelConfig model = read_model(config);
            const int ranks = replica_ranks(config, world.size());
            const PlanInput plan = plan_input(config, model, ranks, 1, 1, dev.types());
            std::size_t weights = 0;
            for (int r = 0; r < world.size(); ++r)
                weights += plan_rank(plan, r % ranks).weights;
            out = {
                {"path", path}, {"architecture", model.architecture}, {"weights_bytes", weights}};
            check_memory(plan, dev, world);
        });
    });
    return out;
}

}  // namespace

ExitCode run_doctor(CommandContext& context) {
    const Timer timer;
    CLI::App app(
        "Looks at ranks, hosts, devices and what lies between them. Started like a job, and with "
        "its options.",
        "cake doctor");
    ModelOptions options(app);
    std::string machine_name, output;
    app.add_option("--machine", machine_name,
                   "what the links should give: a name (a100, cpu, h100, h200) or a YAML file")
        ->type_name("NAME|FILE");
    app.add_option("--output", output, "where the job will write: is its folder shared?")
        ->type_name("PATH");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;

    std::optional<Machine> machine;
    world.agree([&] {
        check_writable(options.report());
        if (!machine_name.empty())
            machine = read_machine(machine_name);
    });
    Complaints found;
    const auto dev = find_device(config, world, found);
    json report{{"schema", "cake.doctor/1"},
                {"version", CAKE_VERSION},
                {"command", "doctor"},
                {"slurm", slurm_json()},
                {"machine", machine ? json(machine->name) : json()}};
    report["ranks"] = gather_json(world.comm(), rank_facts(world, *dev));
    report["clocks"] = compare_clocks(world);
    report["folders"] = json::array({try_folder(world, ".")});
    if (!output.empty()) {
        const std::filesystem::path path(output);
        const auto folder = std::filesystem::is_directory(path) ? path : path.parent_path();
        report["folders"].push_back(try_folder(world, folder.empty() ? "." : folder.string()));
    }
    report["model"] = look_at_model(config, world, *dev, found);
    report["all_reduce"] = look_at_sums(config, world, *dev, machine ? &*machine : nullptr);

    found.warnings = placement_warnings(report["ranks"]);
    for (const std::string& warning : link_warnings(report["all_reduce"]))
        found.warnings.push_back(warning);
    look_at_folders(report["folders"], found);
    look_at_clocks(report["clocks"], found);
    const char* tasks = std::getenv("SLURM_NTASKS");
    if (world.size() == 1 && tasks && std::atoi(tasks) > 1)
        found.warnings.push_back(
            fmt::format("this Slurm job has {} tasks, and this is one process: `srun --mpi=pmix` "
                        "starts a rank for each",
                        tasks));
    report["errors"] = found.errors;
    report["warnings"] = found.warnings;
    report["seconds"] = timer.seconds();
    if (world.rank() == 0 && !options.report().empty())
        write_json(options.report(), report);
    print_once(context, doctor_table(report));
    return found.errors.empty() ? ExitCode::Done : ExitCode::Failed;
}

}  // namespace cake
