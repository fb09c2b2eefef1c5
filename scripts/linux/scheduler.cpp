// What MLX computes on the CPU, it computes here in the thread that asks for it, linked before MLX's own. MLX hands each
// operation to a thread of the stream's, ten or more ahead: two threads a core that wake each other, and the results of
// operations that have not run yet allocated beside those that nobody has freed yet. This program evaluates on a thread
// for each core already. Operations run in the order they did; what waits for another thread's waits here.
#include "mlx/event.h"
#include "mlx/scheduler.h"

namespace mlx::core::scheduler {

void Scheduler::enqueue(Stream, std::function<void()> task) { task(); }

void Scheduler::wait_event(Stream, Event event, std::function<void(Event &)> task) { task(event); }

void Scheduler::signal_event(Stream, Event event, std::function<void(Event &)> task) { task(event); }

} // namespace mlx::core::scheduler
