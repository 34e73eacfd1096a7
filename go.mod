module example.com/scheduler

go 1.25.0
